//! Every XML namespace that the server speaks, with its specification

macro_rules! namespaces {
    ($($(#[$doc:meta])* $name:ident = $value:literal;)*) => {
        $($(#[$doc])* pub const $name: &str = $value;)*
    };
}

namespaces! {
    /// RFC 6120 §4.8.1
    STREAM = "http://etherx.jabber.org/streams";
    /// RFC 6120 §4.8.2: content of client streams; implied in every [`crate::Stanza`]
    CLIENT = "jabber:client";
    /// RFC 6120 §4.8.2: content of server streams
    SERVER = "jabber:server";
    /// RFC 6120 §4.9.2
    STREAM_ERRORS = "urn:ietf:params:xml:ns:xmpp-streams";
    /// RFC 6120 §8.3.2
    STANZA_ERRORS = "urn:ietf:params:xml:ns:xmpp-stanzas";
    /// RFC 6120 §5.4.1
    TLS = "urn:ietf:params:xml:ns:xmpp-tls";
    /// RFC 6120 §6.4.1
    SASL = "urn:ietf:params:xml:ns:xmpp-sasl";
    /// RFC 6120 §7.4
    BIND = "urn:ietf:params:xml:ns:xmpp-bind";
    /// RFC 3921 §3
    SESSION = "urn:ietf:params:xml:ns:xmpp-session";
    /// RFC 6121 §2.1.1
    ROSTER = "jabber:iq:roster";
    /// RFC 6121 §2.6.1
    ROSTER_VERSIONING = "urn:xmpp:features:rosterver";
    /// RFC 6121 §3.4.1
    PRE_APPROVAL = "urn:xmpp:features:pre-approval";
    /// RFC 7395 §3.3
    FRAMING = "urn:ietf:params:xml:ns:xmpp-framing";
    /// Namespaces in XML 1.0 §3
    XML = "http://www.w3.org/XML/1998/namespace";
    /// Namespaces in XML 1.0 §3
    XMLNS = "http://www.w3.org/2000/xmlns/";

    /// XEP-0004
    DATA_FORMS = "jabber:x:data";
    /// XEP-0012
    LAST = "jabber:iq:last";
    /// XEP-0030
    DISCO_INFO = "http://jabber.org/protocol/disco#info";
    /// XEP-0030
    DISCO_ITEMS = "http://jabber.org/protocol/disco#items";
    /// XEP-0033
    ADDRESS = "http://jabber.org/protocol/address";
    /// XEP-0045
    MUC = "http://jabber.org/protocol/muc";
    /// XEP-0045
    MUC_USER = "http://jabber.org/protocol/muc#user";
    /// XEP-0045
    MUC_ADMIN = "http://jabber.org/protocol/muc#admin";
    /// XEP-0045
    MUC_OWNER = "http://jabber.org/protocol/muc#owner";
    /// XEP-0048
    BOOKMARKS_OLD = "storage:bookmarks";
    /// XEP-0049
    PRIVATE = "jabber:iq:private";
    /// XEP-0050
    COMMANDS = "http://jabber.org/protocol/commands";
    /// XEP-0054
    VCARD = "vcard-temp";
    /// XEP-0059
    RSM = "http://jabber.org/protocol/rsm";
    /// XEP-0060
    PUBSUB = "http://jabber.org/protocol/pubsub";
    /// XEP-0060
    PUBSUB_ERRORS = "http://jabber.org/protocol/pubsub#errors";
    /// XEP-0060
    PUBSUB_EVENT = "http://jabber.org/protocol/pubsub#event";
    /// XEP-0060
    PUBSUB_OWNER = "http://jabber.org/protocol/pubsub#owner";
    /// XEP-0060
    PUBSUB_NODE_CONFIG = "http://jabber.org/protocol/pubsub#node_config";
    /// XEP-0060
    PUBSUB_META_DATA = "http://jabber.org/protocol/pubsub#meta-data";
    /// XEP-0060 §7.1.5
    PUBSUB_PUBLISH_OPTIONS = "http://jabber.org/protocol/pubsub#publish-options";
    /// XEP-0060
    PUBSUB_SUBSCRIBE_OPTIONS = "http://jabber.org/protocol/pubsub#subscribe_options";
    /// XEP-0060
    PUBSUB_SUBSCRIBE_AUTHORIZATION = "http://jabber.org/protocol/pubsub#subscribe_authorization";
    /// XEP-0065
    BYTESTREAMS = "http://jabber.org/protocol/bytestreams";
    /// XEP-0066
    OOB = "jabber:x:oob";
    /// XEP-0077
    REGISTER = "jabber:iq:register";
    /// XEP-0077 §10.1
    REGISTER_FEATURE = "http://jabber.org/features/iq-register";
    /// XEP-0078, never offered
    AUTH_OLD = "jabber:iq:auth";
    /// XEP-0079
    AMP = "http://jabber.org/protocol/amp";
    /// XEP-0084
    AVATAR_DATA = "urn:xmpp:avatar:data";
    /// XEP-0084
    AVATAR_METADATA = "urn:xmpp:avatar:metadata";
    /// XEP-0085
    CHAT_STATES = "http://jabber.org/protocol/chatstates";
    /// XEP-0092
    VERSION = "jabber:iq:version";
    /// XEP-0114
    COMPONENT = "jabber:component:accept";
    /// XEP-0115
    CAPS = "http://jabber.org/protocol/caps";
    /// XEP-0115 §6.4
    CAPS_OPTIMIZE = "http://jabber.org/protocol/caps#optimize";
    /// XEP-0122
    DATA_VALIDATE = "http://jabber.org/protocol/xdata-validate";
    /// XEP-0128, XEP-0157
    SERVER_INFO = "http://jabber.org/network/serverinfo";
    /// XEP-0133
    ADMIN = "http://jabber.org/protocol/admin";
    /// XEP-0153
    VCARD_UPDATE = "vcard-temp:x:update";
    /// XEP-0160
    OFFLINE = "msgoffline";
    /// XEP-0172
    NICK = "http://jabber.org/protocol/nick";
    /// XEP-0184
    RECEIPTS = "urn:xmpp:receipts";
    /// XEP-0191
    BLOCKING = "urn:xmpp:blocking";
    /// XEP-0191 §3.5
    BLOCKING_ERRORS = "urn:xmpp:blocking:errors";
    /// XEP-0198
    SM = "urn:xmpp:sm:3";
    /// XEP-0199
    PING = "urn:xmpp:ping";
    /// XEP-0202
    TIME = "urn:xmpp:time";
    /// XEP-0203
    DELAY = "urn:xmpp:delay";
    /// XEP-0091, only to recognise it
    DELAY_OLD = "jabber:x:delay";
    /// XEP-0220
    DIALBACK = "jabber:server:dialback";
    /// XEP-0224
    ATTENTION = "urn:xmpp:attention:0";
    /// XEP-0232 §3
    SOFTWARE_INFO = "urn:xmpp:dataforms:softwareinfo";
    /// XEP-0234, XEP-0300
    HASHES = "urn:xmpp:hashes:2";
    /// XEP-0249
    CONFERENCE = "jabber:x:conference";
    /// XEP-0280
    CARBONS = "urn:xmpp:carbons:2";
    /// XEP-0280 §6.1
    CARBONS_RULES = "urn:xmpp:carbons:rules:0";
    /// XEP-0297
    FORWARD = "urn:xmpp:forward:0";
    /// XEP-0308
    CORRECTION = "urn:xmpp:message-correct:0";
    /// XEP-0313
    MAM = "urn:xmpp:mam:2";
    /// XEP-0313 §4.1.3
    MAM_EXTENDED = "urn:xmpp:mam:2#extended";
    /// XEP-0317
    HATS = "urn:xmpp:hats:0";
    /// XEP-0333
    MARKERS = "urn:xmpp:chat-markers:0";
    /// XEP-0334
    HINTS = "urn:xmpp:hints";
    /// XEP-0352
    CSI = "urn:xmpp:csi:0";
    /// XEP-0353
    JINGLE_MESSAGE = "urn:xmpp:jingle-message:0";
    /// XEP-0357
    PUSH = "urn:xmpp:push:0";
    /// XEP-0359
    STANZA_ID = "urn:xmpp:sid:0";
    /// XEP-0363
    UPLOAD = "urn:xmpp:http:upload:0";
    /// XEP-0380
    EME = "urn:xmpp:eme:0";
    /// XEP-0384 before 0.4
    OMEMO_OLD = "eu.siacs.conversations.axolotl";
    /// XEP-0384 before 0.4
    OMEMO_OLD_DEVICES = "eu.siacs.conversations.axolotl.devicelist";
    /// XEP-0384
    OMEMO = "urn:xmpp:omemo:2";
    /// XEP-0388
    SASL2 = "urn:xmpp:sasl:2";
    /// XEP-0386
    BIND2 = "urn:xmpp:bind:0";
    /// XEP-0390
    CAPS2 = "urn:xmpp:caps";
    /// XEP-0398
    PEP_VCARD_CONVERSION = "urn:xmpp:pep-vcard-conversion:0";
    /// XEP-0402
    BOOKMARKS = "urn:xmpp:bookmarks:1";
    /// XEP-0402 §4.3
    BOOKMARKS_COMPAT = "urn:xmpp:bookmarks:1#compat";
    /// XEP-0421
    OCCUPANT_ID = "urn:xmpp:occupant-id:0";
    /// XEP-0422
    FASTENING = "urn:xmpp:fasten:0";
    /// XEP-0424
    RETRACTION = "urn:xmpp:message-retract:1";
    /// XEP-0425
    MODERATION = "urn:xmpp:message-moderate:1";
    /// XEP-0428
    FALLBACK = "urn:xmpp:fallback:0";
    /// XEP-0431
    FULLTEXT = "urn:xmpp:fulltext:0";
    /// XEP-0440
    SASL_CHANNEL_BINDING = "urn:xmpp:sasl-cb:0";
    /// XEP-0441
    MAM_PREFERENCES = "urn:xmpp:mam:2";
    /// XEP-0444
    REACTIONS = "urn:xmpp:reactions:0";
    /// XEP-0447
    FILE_SHARING = "urn:xmpp:sfs:0";
    /// XEP-0474
    SSDP = "urn:xmpp:ssdp:0";
    /// XEP-0478
    STREAM_LIMITS = "urn:xmpp:stream-limits:0";
    /// XEP-0480
    SCRAM_UPGRADE = "urn:xmpp:scram-upgrade:0";
    /// XEP-0484
    FAST = "urn:xmpp:fast:0";
    /// XEP-0490
    DISPLAYED = "urn:xmpp:mds:displayed:0";
}
