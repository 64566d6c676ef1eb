//! The report as SARIF 2.1.0 (OASIS), which code scanners read.
//!
//! Rules carry their page as help. Files are named by URI references, relative when the file was
//! named so. Excepted findings are results that are suppressed, with the exception's reason.

use serde_json::{Map, Value, json};

use crate::policy::Level;
use crate::report::{ErrorReport, FindingReport, ObjectReport, Report, SuppressedReport, json};
use crate::rules::{self, Rule};

impl Report {
    /// One SARIF log with one run of this program, which ended with `exit_code`.
    pub fn to_sarif(&self, exit_code: u8) -> String {
        let results: Vec<Value> = self.objects.iter().flat_map(ObjectReport::results).collect();
        json(&json!({
            "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
            "version": "2.1.0",
            "runs": [{
                "tool": {"driver": {
                    "name": "layerpin",
                    "semanticVersion": env!("CARGO_PKG_VERSION"),
                    "rules": rules::ALL.iter().map(|rule| descriptor(rule)).collect::<Vec<_>>(),
                }},
                "invocations": [{
                    "executionSuccessful": self.errors.is_empty(),
                    "exitCode": exit_code,
                    "toolExecutionNotifications":
                        self.errors.iter().map(ErrorReport::notification).collect::<Vec<_>>(),
                }],
                "columnKind": "unicodeCodePoints",
                "properties": {"policy": {"name": self.policy.name, "hash": self.policy.hash}},
                "results": results,
            }],
        }))
    }
}

impl ObjectReport {
    fn results(&self) -> Vec<Value> {
        let findings = self.findings.iter().map(|finding| self.finding_result(finding));
        findings.chain(self.excepted.iter().map(|excepted| self.excepted_result(excepted))).collect()
    }

    fn finding_result(&self, finding: &FindingReport) -> Value {
        let mut message = finding.message.clone();
        for note in &finding.notes {
            message.push_str(&format!("\nnote: {note}"));
        }
        message.push_str(&format!("\nhelp: {}", finding.help));
        json!({
            "ruleId": finding.rule,
            "ruleIndex": rule_index(finding.rule),
            "level": if finding.level == "deny" { "error" } else { "warning" },
            "message": {"text": message},
            "locations": [self.location(finding.pointer, finding.line.zip(finding.column))],
        })
    }

    fn excepted_result(&self, excepted: &SuppressedReport) -> Value {
        json!({
            "ruleId": excepted.rule,
            "ruleIndex": rule_index(excepted.rule),
            "level": "note",
            "message": {"text": excepted.message},
            "locations": [self.location(excepted.pointer, excepted.line.zip(excepted.column))],
            "suppressions": [{
                "kind": "external",
                "status": "accepted",
                "justification": format!("until {}: {}", excepted.expires, excepted.reason),
            }],
        })
    }

    fn location(&self, pointer: &str, position: Option<(u64, u64)>) -> Value {
        let mut location = Map::new();
        if let Some(file) = &self.file {
            location.insert("physicalLocation".into(), physical_location(file, position));
        }
        location.insert(
            "logicalLocations".into(),
            json!([{
                "name": self.name,
                "fullyQualifiedName": format!("MachineConfig/{}{pointer}", self.name),
                "kind": "resource",
            }]),
        );
        Value::Object(location)
    }
}

impl ErrorReport {
    fn notification(&self) -> Value {
        json!({
            "level": "error",
            "message": {"text": self.message},
            "locations": [{"physicalLocation": physical_location(&self.file, self.line.zip(self.column))}],
        })
    }
}

fn descriptor(rule: &Rule) -> Value {
    let page = rule.documentation.trim();
    // The first paragraph says what the rule looks at; scanners cut what is longer.
    let (sees, _) = page.split_once("\n\n").unwrap_or((page, ""));
    json!({
        "id": rule.id,
        "shortDescription": {"text": capitalised(rule.fault)},
        "fullDescription": {"text": sees.trim()},
        "help": {"text": page, "markdown": page},
        "defaultConfiguration": {
            "level": if rule.recommended == Level::Deny { "error" } else { "warning" },
        },
    })
}

fn physical_location(file: &str, position: Option<(u64, u64)>) -> Value {
    let mut location = Map::new();
    location.insert("artifactLocation".into(), json!({"uri": uri(file)}));
    if let Some((line, column)) = position {
        location.insert("region".into(), json!({"startLine": line, "startColumn": column}));
    }
    Value::Object(location)
}

/// A path as a URI reference (RFC 3986): relative as it is, absolute with the scheme `file`.
fn uri(path: &str) -> String {
    let mut uri = String::from(if path.starts_with('/') { "file://" } else { "" });
    for byte in path.bytes() {
        match byte {
            b'/' | b'-' | b'.' | b'_' | b'~' => uri.push(byte.into()),
            _ if byte.is_ascii_alphanumeric() => uri.push(byte.into()),
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}

fn rule_index(id: &str) -> Option<usize> {
    rules::ALL.iter().position(|rule| rule.id == id)
}

fn capitalised(phrase: &str) -> String {
    let mut characters = phrase.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_becomes_a_uri_reference() {
        for (path, expected) in [
            ("manifests/worker.yaml", "manifests/worker.yaml"),
            ("../a b/ä#1?.yaml", "../a%20b/%C3%A4%231%3F.yaml"),
            ("c:d.yaml", "c%3Ad.yaml"),
            ("100%.yaml", "100%25.yaml"),
            ("/srv/git/worker.yaml", "file:///srv/git/worker.yaml"),
        ] {
            assert_eq!(uri(path), expected);
        }
    }
}
