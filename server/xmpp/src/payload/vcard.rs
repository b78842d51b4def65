//! XEP-0054: vcard-temp, and XEP-0153: the avatar's hash in presence

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::element::Element;
use crate::ns;

/// A vCard's photo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Photo {
    /// Media type; empty where the vCard names none.
    pub media_type: String,
    /// The image.
    pub bytes: Vec<u8>,
}

/// The photo that a vCard holds, if it is there in binary and can be read.
pub fn photo(vcard: &Element) -> Option<Photo> {
    let photo = vcard.child("PHOTO", ns::VCARD)?;
    let text = photo.child_text("BINVAL", ns::VCARD)?;
    let bytes = decode(&text)?;
    let media_type = photo.child_text("TYPE", ns::VCARD).unwrap_or_default();
    (!bytes.is_empty()).then_some(Photo {
        media_type: media_type.trim().to_owned(),
        bytes,
    })
}

/// The vCard with this photo in place of its own, or without any.
pub fn with_photo(mut vcard: Element, photo: Option<&Photo>) -> Element {
    vcard.retain_children(|child| !child.is("PHOTO", ns::VCARD));
    let photo = photo.map(|photo| {
        Element::new("PHOTO", ns::VCARD)
            .with_child(Element::new("TYPE", ns::VCARD).with_text(&photo.media_type))
            .with_child(Element::new("BINVAL", ns::VCARD).with_text(STANDARD.encode(&photo.bytes)))
    });
    vcard.with_children(photo)
}

/// An empty vCard.
pub fn empty() -> Element {
    Element::new("vCard", ns::VCARD)
}

/// Base64 as vCards and avatars carry it: broken into lines.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let packed: String = text.split_ascii_whitespace().collect();
    STANDARD.decode(packed).ok()
}

/// Base64 for an avatar's data.
pub fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Lower-case hexadecimal of a hash.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a presence says of its sender's avatar (XEP-0153 §4.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// No word: no `<x/>` at all, or not yet known: an empty one.
    Unknown,
    /// `<photo/>` without hash: no avatar is to be shown.
    NoPhoto,
    /// A hash.
    Hash(String),
}

/// Reads `<x/>` of a presence, where there is one.
pub fn parse_update(x: Option<&Element>) -> Update {
    match x.and_then(|x| x.child_text("photo", ns::VCARD_UPDATE)) {
        None => Update::Unknown,
        Some(hash) if hash.is_empty() => Update::NoPhoto,
        Some(hash) => Update::Hash(hash),
    }
}

/// `<x/>` with a hash; empty for an account without avatar.
pub fn update(hash: &str) -> Element {
    let photo = Element::new("photo", ns::VCARD_UPDATE).with_text(hash);
    Element::new("x", ns::VCARD_UPDATE).with_child(photo)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_photo_goes_in_and_comes_out() {
        let named = empty().with_child(Element::new("FN", ns::VCARD).with_text("Bill"));
        assert_eq!(photo(&named), None);
        let picture = Photo {
            media_type: "image/png".into(),
            bytes: vec![1, 2, 3],
        };
        let with = with_photo(named.clone(), Some(&picture));
        assert_eq!(photo(&with), Some(picture));
        assert!(with.has("FN", ns::VCARD));
        assert_eq!(with_photo(with, None), named);
    }

    #[test]
    fn base64_may_be_broken_into_lines() {
        assert_eq!(decode("AQ\n ID\r\n"), Some(vec![1, 2, 3]));
        assert_eq!(decode("A"), None);
    }

    #[test]
    fn presence_says_one_of_three() {
        let read = |xml: &str| parse_update(Some(&Element::parse(xml).expect("test input")));
        assert_eq!(parse_update(None), Update::Unknown);
        assert_eq!(read("<x xmlns='vcard-temp:x:update'/>"), Update::Unknown);
        assert_eq!(
            read("<x xmlns='vcard-temp:x:update'><photo/></x>"),
            Update::NoPhoto
        );
        assert_eq!(parse_update(Some(&update("ab"))), Update::Hash("ab".into()));
    }
}
