//! How values lie in columns, the same on both engines. Each format starts with its version or is JSON.

use crate::{
    AccountId, ArchivePreferences, Commit, Credentials, Error, MessageKind, PosRange, Position,
    ScramKeys, Subscription, Timestamp, Watermark,
};

const CREDENTIALS_VERSION: u8 = 1;
const RANGES_VERSION: u8 = 1;

pub(crate) fn corrupt(what: &str) -> Error {
    Error::Corrupt(what.into())
}

pub(crate) fn encode_credentials(credentials: &Credentials) -> Vec<u8> {
    let mut out = vec![CREDENTIALS_VERSION];
    for keys in [&credentials.sha1, &credentials.sha256, &credentials.sha512] {
        let Some(keys) = keys else {
            out.push(0);
            continue;
        };
        out.push(1);
        out.extend(keys.iterations.to_be_bytes());
        for part in [&keys.salt, &keys.stored_key, &keys.server_key] {
            let length = part.len().min(usize::from(u16::MAX));
            out.extend((length as u16).to_be_bytes());
            out.extend(&part[..length]);
        }
    }
    out
}

pub(crate) fn decode_credentials(bytes: &[u8]) -> Result<Credentials, Error> {
    let mut input = bytes;
    if take(&mut input, 1)? != [CREDENTIALS_VERSION] {
        return Err(corrupt("credentials of an unknown version"));
    }
    Ok(Credentials {
        sha1: take_keys(&mut input)?,
        sha256: take_keys(&mut input)?,
        sha512: take_keys(&mut input)?,
    })
}

fn take<'a>(input: &mut &'a [u8], length: usize) -> Result<&'a [u8], Error> {
    let (head, tail) = input
        .split_at_checked(length)
        .ok_or_else(|| corrupt("credentials end early"))?;
    *input = tail;
    Ok(head)
}

fn take_keys(input: &mut &[u8]) -> Result<Option<ScramKeys>, Error> {
    if take(input, 1)? == [0] {
        return Ok(None);
    }
    let mut iterations = [0; 4];
    iterations.copy_from_slice(take(input, 4)?);
    let mut part = || -> Result<Vec<u8>, Error> {
        let mut length = [0; 2];
        length.copy_from_slice(take(input, 2)?);
        Ok(take(input, usize::from(u16::from_be_bytes(length)))?.to_vec())
    };
    Ok(Some(ScramKeys {
        iterations: u32::from_be_bytes(iterations),
        salt: part()?,
        stored_key: part()?,
        server_key: part()?,
    }))
}

/// Ranges beyond [`Watermark::RANGES_MAX`] are forgotten.
pub(crate) fn encode_ranges(ranges: &[PosRange]) -> Vec<u8> {
    if ranges.is_empty() {
        return Vec::new();
    }
    let mut out = vec![RANGES_VERSION];
    for range in ranges.iter().take(Watermark::RANGES_MAX) {
        out.extend(range.first.0.to_be_bytes());
        out.extend(range.last.0.to_be_bytes());
    }
    out
}

pub(crate) fn decode_watermark(acked_up_to: i64, ranges: &[u8]) -> Result<Watermark, Error> {
    let mut acked_above = Vec::new();
    if let Some((version, rest)) = ranges.split_first() {
        let (chunks, odd) = rest.as_chunks::<8>();
        if *version != RANGES_VERSION || !odd.is_empty() || chunks.len() % 2 != 0 {
            return Err(corrupt("ranges of a watermark"));
        }
        for pair in chunks.chunks_exact(2) {
            acked_above.push(PosRange {
                first: Position(i64::from_be_bytes(pair[0])),
                last: Position(i64::from_be_bytes(pair[1])),
            });
        }
    }
    Ok(Watermark {
        acked_up_to: Position(acked_up_to),
        acked_above,
    })
}

pub(crate) fn encode_strings(strings: &[String]) -> String {
    serde_json::to_string(strings).expect("strings have a JSON form")
}

pub(crate) fn decode_strings(json: &str) -> Result<Vec<String>, Error> {
    serde_json::from_str(json).map_err(|_| corrupt("a list of strings"))
}

pub(crate) fn encode_archive_preferences(preferences: &ArchivePreferences) -> String {
    serde_json::to_string(preferences).expect("preferences have a JSON form")
}

pub(crate) fn decode_archive_preferences(
    json: Option<&str>,
) -> Result<Option<ArchivePreferences>, Error> {
    json.map(|json| serde_json::from_str(json).map_err(|_| corrupt("archive preferences")))
        .transpose()
}

pub(crate) fn encode_subscription(subscription: Subscription) -> i16 {
    match subscription {
        Subscription::None => 0,
        Subscription::To => 1,
        Subscription::From => 2,
        Subscription::Both => 3,
    }
}

pub(crate) fn decode_subscription(value: i16) -> Result<Subscription, Error> {
    Ok(match value {
        0 => Subscription::None,
        1 => Subscription::To,
        2 => Subscription::From,
        3 => Subscription::Both,
        _ => return Err(corrupt("a subscription state")),
    })
}

pub(crate) fn decode_kind(value: i16) -> Result<MessageKind, Error> {
    Ok(match value {
        0 => MessageKind::Normal,
        1 => MessageKind::Chat,
        2 => MessageKind::Groupchat,
        3 => MessageKind::Headline,
        4 => MessageKind::Error,
        _ => return Err(corrupt("a message's type")),
    })
}

/// The word under which an owner's messages are found in a full-text index that all owners share. No text has one like it.
pub(crate) fn owner_word(owner: AccountId) -> String {
    format!(":{owner}")
}

/// What the full-text index gets of each message of a batch: a word for each owner that may find it, and its text's.
/// `places`: where each row goes; `None`: it is left out.
pub(crate) fn searchable(
    batch: &Commit,
    places: &[Option<(Position, Timestamp)>],
) -> Vec<Option<String>> {
    let mut contents = vec![None::<String>; batch.messages.len()];
    for (row, place) in batch.rows.iter().zip(places) {
        // A row with bytes of its own does not refer to the message.
        if row.flags.archived && row.own_bytes.is_none() && place.is_some() {
            let owners = contents[row.message].get_or_insert_default();
            owners.push_str(&owner_word(row.owner));
            owners.push(' ');
        }
    }
    for (content, message) in contents.iter_mut().zip(&batch.messages) {
        let words = words(message.text.as_deref().unwrap_or_default());
        *content = content
            .take_if(|_| !words.is_empty())
            .map(|owners| owners + &words.join(" "));
    }
    contents
}

/// Words kept of one text, and characters of one word.
const WORDS_MAX: usize = 4000;
const WORD_CHARS_MAX: usize = 64;

/// A text's words for the full-text index, each once: runs of letters and digits, in lower case. Both engines index and
/// look for these and nothing else, so that both find the same.
pub(crate) fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(|word| {
            word.chars()
                .take(WORD_CHARS_MAX)
                .flat_map(char::to_lowercase)
                .filter(|c| c.is_alphanumeric())
                .collect()
        })
        .take(WORDS_MAX)
        .collect();
    words.sort_unstable();
    words.dedup();
    words
}

/// Adds JIDs to a sorted list; true where it changed.
pub(crate) fn add_sorted(list: &mut Vec<String>, jids: &[String]) -> bool {
    let before = list.len();
    list.extend_from_slice(jids);
    list.sort_unstable();
    list.dedup();
    list.len() != before
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_come_back() {
        let keys = |n: u8| ScramKeys {
            salt: vec![n; 16],
            iterations: 10_000 + u32::from(n),
            stored_key: vec![n + 1; 32],
            server_key: vec![n + 2; 32],
        };
        let credentials = Credentials {
            sha1: None,
            sha256: Some(keys(1)),
            sha512: Some(keys(7)),
        };
        let bytes = encode_credentials(&credentials);
        assert_eq!(decode_credentials(&bytes).unwrap(), credentials);
        for end in 0..bytes.len() {
            assert!(decode_credentials(&bytes[..end]).is_err());
        }
    }

    #[test]
    fn watermarks_come_back() {
        let range = |first, last| PosRange {
            first: Position(first),
            last: Position(last),
        };
        let watermark = Watermark {
            acked_up_to: Position(4),
            acked_above: vec![range(6, 7), range(9, 900)],
        };
        let bytes = encode_ranges(&watermark.acked_above);
        assert_eq!(decode_watermark(4, &bytes).unwrap(), watermark);
        assert!(decode_watermark(4, &bytes[..bytes.len() - 1]).is_err());
        assert!(
            watermark.covers(Position(4))
                && !watermark.covers(Position(5))
                && watermark.covers(Position(9))
        );
    }
}
