//! A daemon's answer for people and for programs, and what to type next where it is an error.

/// One line of a daemon.
pub struct Answer<'a> {
    line: &'a str,
    words: Vec<&'a str>,
}

/// The names of what stands behind an answer's first word; the last takes the rest of the line.
const FIELDS: [(&str, &[&str]); 8] = [
    ("value", &["revision", "value"]),
    ("written", &["revision"]),
    ("conflict", &["revision"]),
    ("put", &["revision", "key", "value"]),
    ("removed", &["revision", "key"]),
    ("orphaned", &["revision", "owner"]),
    ("resync", &["revision"]),
    ("error", &["kind", "reason"]),
];

impl<'a> Answer<'a> {
    pub fn read(line: &'a str) -> Self {
        Self {
            line,
            words: line.split(' ').collect(),
        }
    }

    fn first(&self) -> &'a str {
        self.words.first().copied().unwrap_or_default()
    }

    fn second(&self) -> &'a str {
        self.words.get(1).copied().unwrap_or_default()
    }

    /// 0; 1 for an error; 3 where nobody knows what became of a write.
    pub fn code(&self) -> u8 {
        match (self.first(), self.second()) {
            ("error", "unknown") => 3,
            ("error", _) => 1,
            _ => 0,
        }
    }

    /// Name and content of all that it says.
    fn fields(&self) -> Vec<(&'a str, String)> {
        if self.first() == "status" {
            let fields = self.words[1..]
                .iter()
                .filter_map(|word| word.split_once('='));
            return fields
                .map(|(name, content)| (name, content.to_owned()))
                .collect();
        }
        let names = FIELDS.iter().find(|(first, _)| *first == self.first());
        let names = names.map_or(&[][..], |(_, names)| names);
        let rest = |at: usize| self.words.get(at..).unwrap_or_default().join(" ");
        let field = |(at, name): (usize, &&'static str)| match at + 1 == names.len() {
            true => (*name, rest(at + 1)),
            false => (
                *name,
                self.words
                    .get(at + 1)
                    .copied()
                    .unwrap_or_default()
                    .to_owned(),
            ),
        };
        names.iter().enumerate().map(field).collect()
    }

    /// One line for people; a status has one a field.
    pub fn text(&self) -> String {
        match (self.first(), self.second()) {
            ("value", _) => {
                let mut fields = self.fields();
                let (_, value) = fields.pop().unwrap_or_default();
                format!("{value}  (revision {})", self.second())
            }
            ("none", _) => "not there".into(),
            ("written", revision) => format!("written, revision {revision}"),
            ("conflict", "0") => "not written: the key is not there".into(),
            ("conflict", revision) => format!("not written: the key is at revision {revision}"),
            ("status", _) => {
                let lines = self
                    .fields()
                    .into_iter()
                    .map(|(name, content)| format!("{name:<12} {content}"));
                lines.collect::<Vec<_>>().join("\n")
            }
            _ => self.line.to_owned(),
        }
    }

    /// One object. Numbers are numbers where JSON keeps them exact.
    pub fn json(&self) -> String {
        let mut members = vec![format!("\"answer\":{}", quoted(self.first()))];
        for (name, content) in self.fields() {
            // These are words whatever they look like.
            let word = ["key", "value", "reason", "member", "hash", "zone"].contains(&name);
            let exact =
                !word && content.len() < 16 && (content == "0" || !content.starts_with('0'));
            let number =
                exact && !content.is_empty() && content.bytes().all(|byte| byte.is_ascii_digit());
            let content = match (number, content.as_str()) {
                (true, _) | (_, "true" | "false") => content,
                (_, "-") => "null".into(),
                _ => quoted(&content),
            };
            members.push(format!("{}:{content}", quoted(name)));
        }
        format!("{{{}}}", members.join(","))
    }

    /// What to do about an error.
    pub fn hint(&self, request: &[String]) -> Option<String> {
        let key = request.get(1).map_or("KEY", String::as_str);
        let hint = match (self.first(), self.second()) {
            ("error", "unknown") => format!("It may have been done. See what is there: get {key}"),
            ("error", "no-quorum") => {
                "No majority of the voters answers. See who leads and who is gone: status, at each member".into()
            }
            ("error", "not-ready") => "The daemon is starting, or waits for others. Try again, or see: status".into(),
            ("error", "busy") => "Too much is under way. Try again".into(),
            ("error", "disk-full") => "Make space where the daemon keeps its directory, then try again".into(),
            ("error", "not-removed") => {
                "It is forgotten unless somebody asks again: repeat it. What it waits for: status of the leader, next".into()
            }
            ("error", "usage") => "All requests: kvctl without words".into(),
            ("conflict", _) => format!("Read it and try with its revision: get {key}"),
            _ => return None,
        };
        Some(hint)
    }
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            letter if letter < ' ' => quoted += &format!("\\u{:04x}", letter as u32),
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}
