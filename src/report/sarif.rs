//! The report as SARIF 2.1.0 (OASIS), which code scanners read.
//!
//! Each rule has its page as help. Files are URI references, relative when the path was relative. Excepted
//! findings are suppressed results with the reason of the exception.

use serde_json::{Value, json};

use crate::model::machine_config::Position;
use crate::policy::Level;
use crate::report::{FieldLocation, ObjectReport, ReadError, Report, json};
use crate::rules::{self, Rule};

impl Report {
    /// One SARIF log with one run of this program, which exited with `exit_code`.
    pub fn to_sarif(&self, exit_code: u8) -> String {
        let results: Vec<Value> = self.objects.iter().flat_map(ObjectReport::results).collect();
        json(&json!({
            "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
            "version": "2.1.0",
            "runs": [{
                "tool": {"driver": {
                    "name": "layerpin",
                    "semanticVersion": env!("CARGO_PKG_VERSION"),
                    "rules": rules::ALL.iter().map(descriptor).collect::<Vec<_>>(),
                }},
                "invocations": [{
                    "executionSuccessful": self.errors.is_empty(),
                    "exitCode": exit_code,
                    "toolExecutionNotifications":
                        self.errors.iter().map(ReadError::notification).collect::<Vec<_>>(),
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
        let findings = self.findings.iter().map(|finding| {
            self.result(finding.rule, finding.severity(), &finding.lines(), &finding.location)
        });
        let excepted = self.excepted.iter().map(|excepted| {
            let mut result = self.result(excepted.rule, "note", &excepted.message, &excepted.location);
            result["suppressions"] = json!([{
                "kind": "external",
                "status": "accepted",
                "justification": format!("until {}: {}", excepted.expires, excepted.reason),
            }]);
            result
        });
        findings.chain(excepted).collect()
    }

    fn result(&self, rule: &str, level: &str, message: &str, at: &FieldLocation) -> Value {
        let mut location = json!({
            "logicalLocations": [{
                "name": self.name,
                "fullyQualifiedName": format!("MachineConfig/{}{}", self.name, at.pointer),
                "kind": "resource",
            }],
        });
        if let Some(file) = &self.file {
            location["physicalLocation"] = physical_location(file, at.position);
        }
        json!({
            "ruleId": rule,
            "ruleIndex": rules::ALL.iter().position(|other| other.id == rule),
            "level": level,
            "message": {"text": message},
            "locations": [location],
        })
    }
}

impl ReadError {
    fn notification(&self) -> Value {
        json!({
            "level": "error",
            "message": {"text": self.message},
            "locations": [{"physicalLocation": physical_location(&self.file, self.position)}],
        })
    }
}

fn descriptor(rule: &Rule) -> Value {
    let page = rule.documentation.trim();
    // The first paragraph says what the rule checks; scanners cut longer texts.
    let (summary, _) = page.split_once("\n\n").unwrap_or((page, ""));
    json!({
        "id": rule.id,
        "shortDescription": {"text": capitalised(rule.fault)},
        "fullDescription": {"text": summary.trim()},
        "help": {"text": page, "markdown": page},
        "defaultConfiguration": {
            "level": if rule.recommended == Level::Deny { "error" } else { "warning" },
        },
    })
}

fn physical_location(file: &str, position: Option<Position>) -> Value {
    let mut location = json!({"artifactLocation": {"uri": uri(file)}});
    if let Some(Position { line, column }) = position {
        location["region"] = json!({"startLine": line, "startColumn": column});
    }
    location
}

/// A path as a URI reference (RFC 3986): relative as it is, absolute with the scheme `file`.
fn uri(path: &str) -> String {
    let mut uri = String::from(if path.starts_with('/') { "file://" } else { "" });
    for byte in path.bytes() {
        match byte {
            b'/' | b'-' | b'.' | b'_' | b'~' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => {
                uri.push(byte.into())
            }
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
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
