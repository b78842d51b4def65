//! Limits: every bound on what one client, account or the process may hold.

use super::schema::section;

section! {
    /// Bounds. Over one, the peer gets the error that its specification defines.
    pub struct Limits {
        /// Bytes of one stanza before login.
        pub stanza_bytes_before_login: u32 = 16 * 1024,
        /// Bytes of one stanza after login; told to clients (XEP-0478).
        pub stanza_bytes: u32 = 256 * 1024,
        /// Depth of elements within a stanza.
        pub element_depth: u32 = 64,
        /// Elements within a stanza.
        pub elements_per_stanza: u32 = 8_192,
        /// Attributes of one element, namespace declarations included.
        pub attributes_per_element: u32 = 128,
        /// Connections that are not logged in yet, over all listeners.
        pub connections_before_login: u32 = 50_000,
        /// Connections from one address (IPv6: one /64) that are not logged in yet. 0 means no limit.
        pub connections_before_login_per_address: u32 = 20_000,
        /// Bytes that one connection may send before it is logged in.
        pub bytes_before_login: u32 = 64 * 1024,
        /// Bytes that all connections from one address (IPv6: one /64) which are not logged in yet may
        /// have sent. 0 means no limit.
        pub bytes_before_login_per_address: u64 = 64 * 1024 * 1024,
        /// Bytes that all connections which are not logged in yet may have sent. 0 means no limit.
        pub bytes_before_login_total: u64 = 256 * 1024 * 1024,
        /// Bound resources of one account; the next is refused with `resource-constraint`. Resumable
        /// sessions count.
        pub sessions_per_account: u32 = 50,
        /// Sessions from one address (IPv6: one /64). 0 means no limit.
        pub sessions_per_address: u32 = 20_000,
        /// Stanzas read from one session that are not handled yet; then reading stops.
        pub session_inbox_stanzas: u32 = 256,
        /// Bytes read from one session that are not handled yet; then reading stops.
        pub session_inbox_bytes: u32 = 512 * 1024,
        /// Bytes sent by others that wait to be written to one session or to be acknowledged by it (XEP-0198).
        /// Over it messages stay owed until there is room again, and what is not kept is refused or dropped.
        /// As much again is for what the session asked for itself: over it, it is answered no more requests.
        pub session_queue_bytes: u32 = 512 * 1024,
        /// Seconds for which a client may take nothing of what waits for it, or acknowledge nothing where its
        /// session has no room left.
        pub write_timeout_seconds: u32 = 60,
        /// Contacts in a roster.
        pub roster_items: u32 = 10_000,
        /// Groups of one contact.
        pub roster_groups_per_item: u32 = 32,
        /// Blocked JIDs of an account.
        pub blocked_jids: u32 = 5_000,
        /// Subscription requests waiting for an account's answer.
        pub pending_requests: u32 = 200,
        /// Bytes of one waiting subscription request; a longer one is kept without its payloads.
        pub pending_request_bytes: u32 = 16 * 1024,
        /// JIDs to which a session has sent directed presence and not taken it back.
        pub directed_presences: u32 = 2_000,
        /// Messages kept for an account that is away and does not archive.
        pub offline_messages: u32 = 1_000,
        /// Bytes of messages kept for an account that is away and does not archive.
        pub offline_bytes: u64 = 16 * 1024 * 1024,
        /// Messages in the archive of an account that is away which none of its clients has received yet; further ones are
        /// refused. Where `archive.quota_messages` is less, that counts.
        pub offline_archived_messages: u32 = 10_000,
        /// Bytes of such messages.
        pub offline_archived_bytes: u64 = 256 * 1024 * 1024,
        /// Nodes of an account's PEP service.
        pub pep_nodes: u32 = 500,
        /// Items of one PEP node.
        pub pep_items: u32 = 1_000,
        /// Bytes of one PEP item.
        pub pep_item_bytes: u32 = 256 * 1024,
        /// Bytes of all items of an account's PEP nodes; what comes then is refused with `resource-constraint`.
        pub pep_bytes: u64 = 64 * 1024 * 1024,
        /// Subscriptions to one PEP node.
        pub pep_subscriptions: u32 = 1_000,
        /// Subscriptions to one PEP node of one account and its resources.
        pub pep_subscriptions_per_account: u32 = 10,
        /// Bytes of all private XML of an account, its namespaces and names included (XEP-0049); what comes then is
        /// refused with `resource-constraint`.
        pub private_bytes: u32 = 1024 * 1024,
        /// Bytes of a vCard (XEP-0054).
        pub vcard_bytes: u32 = 256 * 1024,
        /// Bytes of an account's preferences: those of the archive and the like.
        pub preferences_bytes: u32 = 64 * 1024,
        /// Entity capabilities (XEP-0115) remembered by hash.
        pub caps_cache_entries: u32 = 20_000,
        /// Accounts whose block list, preferences and subscriptions are held in memory.
        pub facts_cache_entries: u32 = 100_000,
        /// Messages waiting to be written over all sessions; further ones get `resource-constraint`.
        pub archive_queue_stanzas: u32 = 20_000,
        /// Bytes of messages waiting to be written over all sessions; further ones get `resource-constraint`.
        pub archive_queue_bytes: u64 = 128 * 1024 * 1024,
        /// Steps of an unfinished ad-hoc command kept per session (XEP-0050).
        pub commands_per_session: u32 = 4,
    }
}
