//! Finding the top-level elements of a stream without parsing them: RFC 6120 §4, cheaply.

use std::ops::Range;

use memchr::{memchr, memchr3};

/// What was found at the top level of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The stream header.
    Open,
    /// A complete element below the stream header: its place in the buffer.
    Element(Range<usize>),
    /// The closing tag of the stream.
    Close,
}

/// Walks over the bytes of a stream. Its positions are offsets into the buffer it is given; the
/// owner of the buffer reports with [`Scanner::consumed`] what it has dropped from the front.
#[derive(Debug, Default)]
pub struct Scanner {
    depth: u32,
    start: usize,
    at: usize,
}

impl Scanner {
    /// The next event in `buffer`, or `None` until more bytes have come.
    pub fn next(&mut self, buffer: &[u8]) -> Option<Event> {
        loop {
            let open = self.at + memchr(b'<', buffer.get(self.at..)?)?;
            self.at = open;
            let end = tag_end(buffer, open + 1)?;
            let tag = &buffer[open..=end];
            self.at = end + 1;
            match tag.get(1) {
                Some(b'?') => {}
                Some(b'/') if self.depth == 0 => return Some(Event::Close),
                Some(b'/') => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return Some(Event::Element(self.start..self.at));
                    }
                }
                _ if tag.starts_with(b"<stream:stream") => return Some(Event::Open),
                _ => {
                    if self.depth == 0 {
                        self.start = open;
                    }
                    if tag.ends_with(b"/>") {
                        if self.depth == 0 {
                            return Some(Event::Element(open..self.at));
                        }
                    } else {
                        self.depth += 1;
                    }
                }
            }
        }
    }

    /// How many bytes at the front of the buffer are no longer needed.
    pub fn done(&self) -> usize {
        if self.depth == 0 { self.at } else { self.start }
    }

    /// Tells that `bytes` were dropped from the front of the buffer.
    pub fn consumed(&mut self, bytes: usize) {
        self.at -= bytes;
        self.start = self.start.saturating_sub(bytes);
    }
}

/// The place of the `>` that ends the tag; quoted attribute values may hold that character.
fn tag_end(buffer: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let found = at + memchr3(b'>', b'\'', b'"', buffer.get(at..)?)?;
        let byte = buffer[found];
        if byte == b'>' {
            return Some(found);
        }
        at = found + 1;
        at += memchr(byte, buffer.get(at..)?)? + 1;
    }
}

/// The value of the first attribute of that name in the element's start tag (or in any tag, if the
/// start tag has none): enough for what a load generator looks at.
pub fn attribute<'a>(element: &'a [u8], name: &str) -> Option<&'a str> {
    let mut from = 0;
    loop {
        let at = from + memchr::memmem::find(&element[from..], name.as_bytes())?;
        from = at + name.len();
        let quote = match (
            at.checked_sub(1).map(|i| element[i]),
            element.get(from..from + 2),
        ) {
            (Some(b' '), Some([b'=', quote @ (b'\'' | b'"')])) => *quote,
            _ => continue,
        };
        let value = &element[from + 2..];
        return std::str::from_utf8(&value[..memchr(quote, value)?]).ok();
    }
}

/// The text of the first element with this start tag, up to the next tag.
pub fn text_after<'a>(element: &'a [u8], tag: &str) -> Option<&'a str> {
    let at = memchr::memmem::find(element, tag.as_bytes())? + tag.len();
    let at = at + memchr(b'>', &element[at..])? + 1;
    let end = at + memchr(b'<', &element[at..])?;
    std::str::from_utf8(&element[at..end]).ok()
}

/// Whether the bytes occur in the element.
pub fn contains(element: &[u8], what: &str) -> bool {
    memchr::memmem::find(element, what.as_bytes()).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_found_byte_by_byte() {
        let stream: &[u8] = b"<?xml version='1.0'?><stream:stream id='1>2'><a x=\"y>\"><a>t</a><b/></a> <c/></stream:stream>";
        let (mut scanner, mut events, mut buffer) = (Scanner::default(), Vec::new(), Vec::new());
        for byte in stream {
            buffer.push(*byte);
            while let Some(event) = scanner.next(&buffer) {
                if let Event::Element(range) = &event {
                    events.push(String::from_utf8_lossy(&buffer[range.clone()]).into_owned());
                } else {
                    events.push(format!("{event:?}"));
                }
            }
            let done = scanner.done();
            buffer.drain(..done);
            scanner.consumed(done);
        }
        assert_eq!(
            events,
            ["Open", "<a x=\"y>\"><a>t</a><b/></a>", "<c/>", "Close"]
        );
    }

    #[test]
    fn attributes_and_texts() {
        let element = b"<message id='a' xid='no' to=\"b\"><body>hello</body></message>";
        assert_eq!(attribute(element, "id"), Some("a"));
        assert_eq!(attribute(element, "to"), Some("b"));
        assert_eq!(attribute(element, "from"), None);
        assert_eq!(text_after(element, "<body"), Some("hello"));
    }
}
