//! Findings: what is wrong, what users would notice, what to type.

use std::fmt::Display;

use serde::Serialize;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; nothing has to be done.
    Note,
    /// Works, but not as well or not for long.
    Warning,
    /// Something does not work.
    Error,
}

/// Under which complaint of users the troubleshooting page shows a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Symptom {
    /// The server does not start, or not as configured.
    Start,
    /// Clients run into time-outs or are refused.
    Ports,
    /// Clients warn of the certificate or break off.
    Certificates,
    /// Clients connect but cannot log in.
    Authentication,
    /// Messages are slow, refused or could be lost.
    Messages,
}

impl Symptom {
    /// All, in the order of the page.
    pub const ALL: [Self; 5] = [
        Self::Start,
        Self::Ports,
        Self::Certificates,
        Self::Authentication,
        Self::Messages,
    ];

    /// The heading on the page.
    pub fn heading(self) -> &'static str {
        match self {
            Self::Start => "The server does not start, or not as configured",
            Self::Ports => "Time-outs and ports: clients cannot connect",
            Self::Certificates => "Certificates: clients warn or break off",
            Self::Authentication => "Authentication failures: clients connect but cannot log in",
            Self::Messages => "Messages are slow, refused, or not safe",
        }
    }
}

/// A kind of finding. The texts hold names in braces, as `{host}`, for what differs.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// The word by which scripts know it.
    pub id: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// Where the page shows it.
    pub symptom: Symptom,
    /// What is wrong.
    pub what: &'static str,
    /// What users would notice.
    pub effect: &'static str,
    /// What to type.
    pub remedy: &'static str,
}

impl Kind {
    /// A finding of this kind; `values` fill the names in braces.
    pub fn found(&self, values: &[(&str, &dyn Display)]) -> Finding {
        Finding {
            id: self.id,
            severity: self.severity,
            what: fill(self.what, values),
            effect: fill(self.effect, values),
            remedy: fill(self.remedy, values),
        }
    }
}

fn fill(template: &str, values: &[(&str, &dyn Display)]) -> String {
    let mut text = template.to_owned();
    for (name, value) in values {
        text = text.replace(&format!("{{{name}}}"), &value.to_string());
    }
    text
}

/// Something found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The word by which scripts know it.
    pub id: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong.
    pub what: String,
    /// What users would notice.
    pub effect: String,
    /// What to type.
    pub remedy: String,
}

impl Finding {
    /// The one line.
    pub fn line(&self) -> String {
        let mark = match self.severity {
            Severity::Note => "note   ",
            Severity::Warning => "warning",
            Severity::Error => "ERROR  ",
        };
        let Self {
            what,
            effect,
            remedy,
            ..
        } = self;
        format!("{mark}  {what}; users: {effect}; type: {remedy}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line_with_everything_filled_in() {
        let kind = Kind {
            id: "port-taken",
            severity: Severity::Error,
            symptom: Symptom::Ports,
            what: "port {port} is taken",
            effect: "cannot connect to {port}",
            remedy: "ss -ltnp 'sport = :{port}'",
        };
        let line = kind.found(&[("port", &5222)]).line();
        assert_eq!(
            line,
            "ERROR    port 5222 is taken; users: cannot connect to 5222; type: ss -ltnp 'sport = :5222'"
        );
    }
}
