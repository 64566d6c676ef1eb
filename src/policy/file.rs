//! The format of a policy file: parses YAML into a valid [`Policy`] or errors with their lines.
//!
//! Owns the names of fields. Only the first syntax error (such as an unknown field, or a string instead of a
//! list) is reported; all invalid values (such as unknown rules, levels and dates) are reported together.

use jiff::civil::Date;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::Deserializer;
use serde_saphyr::Spanned;

use crate::bounded;
use crate::catalog::{self, Rule};
use crate::model::digest::Digest;
use crate::model::image_reference::ImageReference;
use crate::model::pattern::Pattern;
use crate::policy::{Exception, Level, Policy, PoolLevels};
use crate::text::shown;

/// Parses and validates a policy.
pub(super) fn parse(text: &str) -> Result<Policy, PolicyErrors> {
    if text.len() > MAX_BYTES {
        return Err(PolicyErrors(vec![PolicyError {
            line: 1,
            message: format!("longer than {MAX_BYTES} bytes"),
        }]));
    }
    let file: PolicyFile = serde_saphyr::from_str(text).map_err(|error| {
        let line = error.location().map_or(1, |at| at.line());
        let message = without_place(&error.without_snippet().to_string());
        PolicyErrors(vec![PolicyError { line, message }])
    })?;
    let mut errors = PolicyErrors(Vec::new());
    errors.expect(&file.api_version, "apiVersion", API_VERSION);
    errors.expect(&file.kind, "kind", KIND);
    if file.metadata.name.value.is_empty() {
        errors.add(&file.metadata.name, "metadata.name is empty");
    }
    let spec = file.spec;
    let policy = Policy {
        name: file.metadata.name.value,
        hash: Digest::of(text.as_bytes()).as_str()["sha256:".len()..][..16].to_owned(),
        pin: spec.pin.unwrap_or(true),
        on_unknown: spec.on_unknown.map_or(Level::Warn, |text| errors.on_unknown(&text)),
        levels: errors.levels(spec.rules),
        pools: spec
            .pools
            .into_iter()
            .map(|entry| PoolLevels { names: errors.names(entry.names), levels: errors.levels(entry.rules) })
            .collect(),
        allowed: spec.registries.allow.into_iter().map(Pattern::new).collect(),
        accepted_bases: spec.accepted_bases.iter().filter_map(|base| errors.base(base)).collect(),
        exceptions: spec.exceptions.into_iter().map(|entry| errors.exception(entry)).collect(),
    };
    if errors.0.is_empty() {
        return Ok(policy);
    }
    errors.0.sort_by_key(|error| error.line);
    Err(errors)
}

/// The JSON Schema of a policy file.
pub fn schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(PolicyFile).to_value();
    schema["$comment"] = "Generated from the code. To update it, run `make generate`.".into();
    schema["title"] = "OSImagePolicy".into();
    schema["description"] =
        "The policy of Layerpin: the level of each rule, allowed registries and exceptions.".into();
    schema["properties"]["apiVersion"]["const"] = API_VERSION.into();
    schema["properties"]["kind"]["const"] = KIND.into();
    schema
}

/// The errors in a policy, in the order of lines.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct PolicyErrors(pub Vec<PolicyError>);

/// An error in a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct PolicyError {
    /// The line, counted from one.
    pub line: u64,
    /// What is wrong.
    pub message: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PolicyFile {
    #[schemars(with = "String")]
    api_version: Spanned<String>,
    #[schemars(with = "String")]
    kind: Spanned<String>,
    metadata: PolicyMetadata,
    #[serde(default)]
    spec: PolicySpec,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PolicyMetadata {
    /// The policy's name, shown in every response.
    #[schemars(with = "String", length(min = 1))]
    name: Spanned<String>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct PolicySpec {
    /// Whether `/mutate` pins tags to digests.
    #[schemars(with = "bool", extend("default" = true))]
    pin: Option<bool>,
    /// The level when a registry or the cluster does not answer; at most the level of the rule.
    #[schemars(with = "String", extend("enum" = ["allow", "warn", "deny"], "default" = "warn"))]
    on_unknown: Option<Spanned<String>>,
    /// The level of each rule. A rule that is not listed has its recommended level.
    rules: Levels,
    /// Other levels for some pools. The strictest level of any affected pool applies.
    pools: Vec<PoolEntry>,
    /// Allowed registries.
    registries: RegistriesSpec,
    /// Images that are accepted as bases in addition to those of the release, such as the base of a hotfix;
    /// each a pull spec with a digest.
    #[schemars(with = "Vec<String>")]
    accepted_bases: Vec<Spanned<String>>,
    /// Exceptions from rules, each with its reason and its last day.
    exceptions: Vec<ExceptionEntry>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PoolEntry {
    /// Names of pools; `*` matches any characters.
    #[schemars(with = "Vec<String>", length(min = 1))]
    names: Spanned<Vec<String>>,
    /// The levels that differ for these pools.
    rules: Levels,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct RegistriesSpec {
    /// Repositories that images may come from, such as `quay.io/acme/*`. Empty: any. No request is sent to a
    /// registry outside this list.
    allow: Vec<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ExceptionEntry {
    /// Names of MachineConfigs; `*` matches any characters.
    #[schemars(with = "Vec<String>", length(min = 1))]
    names: Spanned<Vec<String>>,
    /// The rules that do not apply.
    #[schemars(with = "Vec<String>", length(min = 1), extend("items" = rule_names()))]
    rules: Spanned<Vec<Spanned<String>>>,
    /// Why; shown wherever the exception applies.
    #[schemars(with = "String", length(min = 1))]
    reason: Spanned<String>,
    /// The last day on which the exception applies, in UTC.
    #[schemars(with = "String", extend("format" = "date"))]
    expires: Spanned<String>,
}

/// A map from rules to levels, with the line of each.
#[derive(Default)]
struct Levels(Vec<(Spanned<String>, Spanned<String>)>);

impl<'de> Deserialize<'de> for Levels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut entries = Vec::new();
        bounded::each_entry(deserializer, |rule, level| {
            entries.push((rule, level));
            Ok(())
        })?;
        Ok(Self(entries))
    }
}

impl JsonSchema for Levels {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Levels".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let level = generator.subschema_for::<Level>();
        let properties: serde_json::Map<_, _> = catalog::ALL
            .iter()
            .map(|rule| {
                let mut property = level.clone();
                property.insert("description".into(), rule.fault.into());
                (rule.id.to_owned(), property.to_value())
            })
            .collect();
        schemars::json_schema!({"type": "object", "properties": properties, "additionalProperties": false})
    }
}

fn ids() -> impl Iterator<Item = &'static str> {
    catalog::ALL.iter().map(|rule| rule.id)
}

/// The schema of a rule's id.
fn rule_names() -> serde_json::Value {
    serde_json::json!({"type": "string", "enum": ids().collect::<Vec<_>>()})
}

impl PolicyErrors {
    fn add<T>(&mut self, at: &Spanned<T>, message: impl Into<String>) {
        self.0.push(PolicyError { line: at.referenced.line(), message: message.into() });
    }

    fn expect(&mut self, found: &Spanned<String>, field: &str, expected: &str) {
        if found.value != expected {
            self.add(found, format!("{field} is `{}`; expected `{expected}`", shown(&found.value)));
        }
    }

    fn rule(&mut self, id: &Spanned<String>) -> Option<&'static Rule> {
        let found = Rule::named(&id.value);
        if found.is_none() {
            let known: Vec<_> = ids().collect();
            self.add(id, format!("unknown rule `{}`; the rules are {}", shown(&id.value), known.join(", ")));
        }
        found
    }

    fn levels(&mut self, levels: Levels) -> Vec<(&'static Rule, Level)> {
        let checked = levels.0.into_iter().filter_map(|(id, level)| {
            let known = Level::parse(&level.value);
            if known.is_none() {
                self.add(&level, format!("`{}` is not a level; use off, warn or deny", shown(&level.value)));
            }
            self.rule(&id).zip(known)
        });
        checked.collect()
    }

    fn on_unknown(&mut self, text: &Spanned<String>) -> Level {
        match text.value.as_str() {
            "allow" => Level::Off,
            "deny" => Level::Deny,
            "warn" => Level::Warn,
            other => {
                let message = "is not valid for onUnknown; use allow, warn or deny";
                self.add(text, format!("`{}` {message}", shown(other)));
                Level::Warn
            }
        }
    }

    fn base(&mut self, text: &Spanned<String>) -> Option<ImageReference> {
        let fault = match ImageReference::parse(&text.value) {
            Ok(reference) if reference.is_pinned() => return Some(reference),
            Ok(reference) => format!("`{reference}` has no digest; write repository@sha256:<digest>"),
            Err(error) => error.to_string(),
        };
        self.add(text, fault);
        None
    }

    fn names(&mut self, names: Spanned<Vec<String>>) -> Vec<Pattern> {
        if names.value.is_empty() || names.value.iter().any(String::is_empty) {
            self.add(&names, "names must not be empty; `*` matches all");
        }
        names.value.into_iter().map(Pattern::new).collect()
    }

    fn exception(&mut self, entry: ExceptionEntry) -> Exception {
        if entry.rules.value.is_empty() {
            self.add(&entry.rules, "rules must not be empty; list the ids of the rules");
        }
        if entry.reason.value.trim().is_empty() {
            self.add(&entry.reason, "reason must not be empty");
        }
        let expires = entry.expires.value.parse().unwrap_or_else(|_| {
            let text = shown(&entry.expires.value);
            self.add(&entry.expires, format!("`{text}` is not a date; write it as 2027-01-31"));
            Date::ZERO
        });
        Exception {
            names: self.names(entry.names),
            rules: entry.rules.value.iter().filter_map(|id| self.rule(id)).collect(),
            reason: entry.reason.value,
            expires,
        }
    }
}

/// The parser's message without the position, which is reported separately.
pub(crate) fn without_place(message: &str) -> String {
    let message = message.strip_prefix("error: ").unwrap_or(message);
    match message.strip_prefix("line ").and_then(|rest| rest.split_once(": ")) {
        Some((_, rest)) => rest.to_owned(),
        None => message.split(" at line ").next().unwrap_or(message).to_owned(),
    }
}

const API_VERSION: &str = "layerpin.io/v1alpha1";
const KIND: &str = "OSImagePolicy";
/// The limit of a ConfigMap.
const MAX_BYTES: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "apiVersion: layerpin.io/v1alpha1\nkind: OSImagePolicy\nmetadata:\n  name: test\n";

    #[test]
    fn every_invalid_value_is_reported_with_its_line() {
        let text = "apiVersion: layerpin.io/v2\nkind: Policy\nmetadata:\n  name: ''\nspec:\n  onUnknown: maybe\n  \
            rules:\n    floating-tags: deny\n    floating-tag: error\n  pools:\n  - names: []\n    rules: {}\n  \
            exceptions:\n  - names: [a]\n    rules: [nope]\n    reason: ' '\n    expires: 2027-02-30\n";
        let errors = parse(text).unwrap_err();
        let found: Vec<_> = errors.0.iter().map(|error| (error.line, error.message.as_str())).collect();
        let rules = ids().collect::<Vec<_>>().join(", ");
        assert_eq!(
            found,
            [
                (1, "apiVersion is `layerpin.io/v2`; expected `layerpin.io/v1alpha1`"),
                (2, "kind is `Policy`; expected `OSImagePolicy`"),
                (4, "metadata.name is empty"),
                (6, "`maybe` is not valid for onUnknown; use allow, warn or deny"),
                (8, &*format!("unknown rule `floating-tags`; the rules are {rules}")),
                (9, "`error` is not a level; use off, warn or deny"),
                (11, "names must not be empty; `*` matches all"),
                (15, &format!("unknown rule `nope`; the rules are {rules}")),
                (16, "reason must not be empty"),
                (17, "`2027-02-30` is not a date; write it as 2027-01-31"),
            ]
        );
    }

    #[test]
    fn a_syntax_error_names_the_line_and_the_field() {
        for (tail, line, part) in [
            ("spec:\n  pinn: true\n", 6, "pinn"),
            ("spec:\n  pin: sometimes\n", 6, "bool"),
            ("spec:\n  rules: [a]\n", 6, "map"),
            (
                "spec:\n  exceptions:\n  - names: [a]\n    rules: [floating-tag]\n    reason: x\n",
                9,
                "expires",
            ),
            ("spec:\n  rules: {floating-tag: deny, floating-tag: warn}\n", 6, "floating-tag"),
            ("spec: {\n", 5, "unclosed"),
            ("more: 1\n", 5, "more"),
        ] {
            let errors = parse(&format!("{HEAD}{tail}")).unwrap_err();
            let error = &errors.0[0];
            assert_eq!(error.line, line, "{tail:?}: {error:?}");
            assert!(error.message.contains(part), "{tail:?}: {error:?}");
            assert!(!error.message.contains("line "), "{error:?}");
        }
    }

    #[test]
    fn an_accepted_base_has_a_digest() {
        let base =
            "quay.io/acme/hotfix@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        let policy = parse(&format!("{HEAD}spec:\n  acceptedBases:\n  - {base}\n")).unwrap();
        assert_eq!(policy.accepted_bases(), [ImageReference::parse(base).unwrap()]);
        let text = format!("{HEAD}spec:\n  acceptedBases:\n  - quay.io/acme/hotfix:1\n  - hotfix\n");
        let errors = parse(&text).unwrap_err();
        let found: Vec<_> = errors.0.iter().map(|error| (error.line, error.message.as_str())).collect();
        let short = ImageReference::parse("hotfix").unwrap_err().to_string();
        assert_eq!(
            found,
            [
                (7, "`quay.io/acme/hotfix:1` has no digest; write repository@sha256:<digest>"),
                (8, short.as_str()),
            ]
        );
    }

    #[test]
    fn an_empty_file_is_not_a_policy() {
        assert!(parse("").is_err());
        assert!(parse(&format!("{HEAD}---\n{HEAD}")).is_err());
        assert!(parse(&format!("{HEAD}# {}\n", "x".repeat(MAX_BYTES))).is_err());
    }

    #[test]
    fn the_hash_changes_with_the_text() {
        let one = parse(HEAD).unwrap();
        let other = parse(&format!("{HEAD}# more\n")).unwrap();
        assert_eq!(one.hash().len(), 16);
        assert_ne!(one.hash(), other.hash());
    }

    #[test]
    fn off_is_a_level_and_not_a_boolean() {
        let policy = parse(&format!("{HEAD}spec:\n  rules: {{floating-tag: off}}\n")).unwrap();
        assert_eq!(policy.level(Rule::named("floating-tag").unwrap(), &[]).level, Level::Off);
    }
}
