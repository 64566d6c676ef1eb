//! The form of a policy file: YAML in, a checked [`Policy`] or the line of each fault out.
//!
//! Owns the names of fields. Faults of form (an unknown field, a text where a list should stand)
//! end the reading at the first; faults of content (unknown rules, levels, dates, missing reasons)
//! are all told together.

use std::fmt;

use jiff::civil::Date;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::Deserializer;
use serde_saphyr::Spanned;

use crate::bounded;
use crate::model::image_reference::ImageReference;
use crate::model::pattern::Pattern;
use crate::policy::{Exception, Level, Policy, PoolLevels, hash, rule};
use crate::rules::{self, Rule};
use crate::text::shown;

/// Reads and checks a policy.
pub(super) fn parse(text: &str) -> Result<Policy, PolicyErrors> {
    if text.len() > MAX_BYTES {
        return Err(PolicyErrors::one(1, format!("longer than {MAX_BYTES} bytes")));
    }
    let file: PolicyFile = serde_saphyr::from_str(text).map_err(|error| {
        let line = error.location().map_or(1, |at| at.line());
        PolicyErrors::one(line, without_place(&error.without_snippet().to_string()))
    })?;
    let mut faults = Faults::default();
    faults.expect(&file.api_version, "apiVersion", API_VERSION);
    faults.expect(&file.kind, "kind", KIND);
    if file.metadata.name.value.is_empty() {
        faults.add(&file.metadata.name, "metadata.name is empty");
    }
    let spec = file.spec;
    let policy = Policy {
        name: file.metadata.name.value,
        hash: hash(text),
        pin: spec.pin,
        on_unknown: match spec.on_unknown {
            None => Level::Warn,
            Some(on_unknown) => match on_unknown.value.as_str() {
                "allow" => Level::Off,
                "warn" => Level::Warn,
                "deny" => Level::Deny,
                other => faults.refuse(
                    &on_unknown,
                    Level::Warn,
                    format!("`{}` is no answer to onUnknown; write allow, warn or deny", shown(other)),
                ),
            },
        },
        levels: faults.levels(spec.rules),
        pools: spec
            .pools
            .into_iter()
            .map(|entry| PoolLevels {
                names: faults.patterns(entry.names, "names"),
                levels: faults.levels(entry.rules),
            })
            .collect(),
        allowed: spec.registries.allow.into_iter().map(Pattern::new).collect(),
        accepted_bases: spec.accepted_bases.iter().filter_map(|base| faults.base(base)).collect(),
        exceptions: spec.exceptions.into_iter().map(|entry| faults.exception(entry)).collect(),
    };
    if faults.0.is_empty() {
        return Ok(policy);
    }
    faults.0.sort_by_key(|fault| fault.line);
    Err(PolicyErrors(faults.0))
}

/// The JSON Schema of a policy file.
pub fn schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(PolicyFile).to_value();
    schema["$comment"] = "Generated from the code. Make it again with `make generate`.".into();
    schema["title"] = "OSImagePolicy".into();
    schema["description"] = "The policy of layerpin: what it judges, and what each fault costs.".into();
    schema["properties"]["apiVersion"]["const"] = API_VERSION.into();
    schema["properties"]["kind"]["const"] = KIND.into();
    schema
}

/// Everything that is wrong with a policy, each with the line where it stands, in the order of lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyErrors(Vec<PolicyError>);

impl PolicyErrors {
    /// The faults.
    pub fn iter(&self) -> impl Iterator<Item = &PolicyError> {
        self.0.iter()
    }

    fn one(line: u64, message: String) -> Self {
        Self(vec![PolicyError { line, message }])
    }
}

impl fmt::Display for PolicyErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, PolicyError { line, message }) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(formatter, "{separator}line {line}: {message}")?;
        }
        Ok(())
    }
}

impl std::error::Error for PolicyErrors {}

/// One fault of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyError {
    /// The line, counted from one.
    pub line: u64,
    /// What is wrong there.
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
    /// The policy's name, shown in every answer.
    #[schemars(with = "String", length(min = 1))]
    name: Spanned<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct PolicySpec {
    /// Whether `/mutate` pins tags to digests.
    pin: bool,
    /// What a question costs that nobody answered; never more than the rule that asked it.
    #[schemars(with = "OnUnknown")]
    on_unknown: Option<Spanned<String>>,
    /// The level of each rule. A rule that is not named has the level that it recommends.
    rules: Levels,
    /// Other levels for some pools. The strictest affected pool decides.
    pools: Vec<PoolEntry>,
    /// Where images may come from.
    registries: RegistriesSpec,
    /// Images that count as bases beside those of the release, such as the base of a hotfix; each a
    /// pull spec by digest. Whatever is built on one of them is not foreign.
    #[schemars(with = "Vec<String>")]
    accepted_bases: Vec<Spanned<String>>,
    /// Agreed deviations, each with its reason and its end.
    exceptions: Vec<ExceptionEntry>,
}

impl Default for PolicySpec {
    fn default() -> Self {
        Self {
            pin: true,
            on_unknown: None,
            rules: Levels::default(),
            pools: Vec::new(),
            registries: RegistriesSpec::default(),
            accepted_bases: Vec::new(),
            exceptions: Vec::new(),
        }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PoolEntry {
    /// Names of pools; `*` stands for any run of characters.
    #[schemars(with = "Vec<String>", length(min = 1))]
    names: Spanned<Vec<String>>,
    /// The levels that differ for these pools.
    rules: Levels,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct RegistriesSpec {
    /// Repositories that images may come from, such as `quay.io/acme/*`. Empty: any. Nothing is
    /// asked of a registry outside this list.
    allow: Vec<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ExceptionEntry {
    /// Names of MachineConfigs; `*` stands for any run of characters.
    #[schemars(with = "Vec<String>", length(min = 1))]
    names: Spanned<Vec<String>>,
    /// The rules that are excepted.
    #[schemars(with = "Vec<RuleName>", length(min = 1))]
    rules: Spanned<Vec<Spanned<String>>>,
    /// Why; shown wherever the exception is used.
    #[schemars(with = "String", length(min = 1))]
    reason: Spanned<String>,
    /// The last day on which the exception holds, in UTC.
    #[schemars(with = "String", extend("format" = "date"))]
    expires: Spanned<String>,
}

/// A map from rules to levels, with the place of each.
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
        let properties: serde_json::Map<_, _> = rules::ALL
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

/// The schema of a rule's id.
struct RuleName;

impl JsonSchema for RuleName {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RuleName".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let ids: Vec<_> = rules::ALL.iter().map(|rule| rule.id).collect();
        schemars::json_schema!({"type": "string", "enum": ids})
    }
}

/// The schema of `onUnknown`.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
#[expect(dead_code, reason = "only its schema is used; the text is parsed with its place")]
enum OnUnknown {
    Allow,
    Warn,
    Deny,
}

#[derive(Default)]
struct Faults(Vec<PolicyError>);

impl Faults {
    fn add<T>(&mut self, at: &Spanned<T>, message: impl Into<String>) {
        self.0.push(PolicyError { line: at.referenced.line(), message: message.into() });
    }

    fn refuse<T, V>(&mut self, at: &Spanned<T>, instead: V, message: String) -> V {
        self.add(at, message);
        instead
    }

    fn expect(&mut self, found: &Spanned<String>, field: &str, expected: &str) {
        if found.value != expected {
            self.add(found, format!("{field} is `{}`; expected `{expected}`", shown(&found.value)));
        }
    }

    fn rule(&mut self, id: &Spanned<String>) -> Option<&'static Rule> {
        let found = rule(&id.value);
        if found.is_none() {
            let known: Vec<_> = rules::ALL.iter().map(|rule| rule.id).collect();
            self.add(id, format!("no rule is called `{}`; there are {}", shown(&id.value), known.join(", ")));
        }
        found
    }

    fn levels(&mut self, levels: Levels) -> Vec<(&'static Rule, Level)> {
        let mut checked: Vec<(&'static Rule, Level)> = Vec::new();
        for (id, level) in levels.0 {
            let known = match level.value.as_str() {
                "off" => Some(Level::Off),
                "warn" => Some(Level::Warn),
                "deny" => Some(Level::Deny),
                other => {
                    self.add(&level, format!("`{}` is no level; write off, warn or deny", shown(other)));
                    None
                }
            };
            if let (Some(rule), Some(level)) = (self.rule(&id), known) {
                checked.push((rule, level));
            }
        }
        checked
    }

    fn base(&mut self, text: &Spanned<String>) -> Option<ImageReference> {
        match ImageReference::parse(&text.value) {
            Ok(reference) if reference.is_pinned() => Some(reference),
            Ok(reference) => {
                self.add(text, format!("`{reference}` is no base; write it as repository@sha256:<digest>"));
                None
            }
            Err(error) => {
                self.add(text, error.to_string());
                None
            }
        }
    }

    fn patterns(&mut self, texts: Spanned<Vec<String>>, field: &str) -> Vec<Pattern> {
        if texts.value.is_empty() || texts.value.iter().any(String::is_empty) {
            self.add(&texts, format!("{field} must hold names; `*` stands for all"));
        }
        texts.value.into_iter().map(Pattern::new).collect()
    }

    fn exception(&mut self, entry: ExceptionEntry) -> Exception {
        if entry.rules.value.is_empty() {
            self.add(&entry.rules, "rules must hold the ids of the rules that are excepted");
        }
        if entry.reason.value.trim().is_empty() {
            self.add(&entry.reason, "reason is empty; an exception says why");
        }
        let expires = match entry.expires.value.parse::<Date>() {
            Ok(date) => date,
            Err(_) => self.refuse(
                &entry.expires,
                Date::ZERO,
                format!("`{}` is no date; write it as 2027-01-31", shown(&entry.expires.value)),
            ),
        };
        Exception {
            names: self.patterns(entry.names, "names"),
            rules: entry.rules.value.iter().filter_map(|id| self.rule(id)).collect(),
            reason: entry.reason.value,
            expires,
        }
    }
}

/// The reader's message without the place, which is told apart.
pub(crate) fn without_place(message: &str) -> String {
    let message = message.strip_prefix("error: ").unwrap_or(message);
    match message.strip_prefix("line ").and_then(|rest| rest.split_once(": ")) {
        Some((_, rest)) => rest.to_owned(),
        None => message.split(" at line ").next().unwrap_or(message).to_owned(),
    }
}

const API_VERSION: &str = "layerpin.io/v1alpha1";
const KIND: &str = "OSImagePolicy";
/// A ConfigMap holds no more than this.
const MAX_BYTES: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "apiVersion: layerpin.io/v1alpha1\nkind: OSImagePolicy\nmetadata:\n  name: test\n";

    #[test]
    fn every_fault_is_told_with_its_line() {
        let text = "apiVersion: layerpin.io/v2\nkind: Policy\nmetadata:\n  name: ''\nspec:\n  onUnknown: maybe\n  \
            rules:\n    floating-tags: deny\n    floating-tag: error\n  pools:\n  - names: []\n    rules: {}\n  \
            exceptions:\n  - names: [a]\n    rules: [nope]\n    reason: ' '\n    expires: 2027-02-30\n";
        let errors = parse(text).unwrap_err();
        let found: Vec<_> = errors.iter().map(|error| (error.line, error.message.as_str())).collect();
        let rules: Vec<_> = rules::ALL.iter().map(|rule| rule.id).collect();
        let rules = rules.join(", ");
        assert_eq!(
            found,
            [
                (1, "apiVersion is `layerpin.io/v2`; expected `layerpin.io/v1alpha1`"),
                (2, "kind is `Policy`; expected `OSImagePolicy`"),
                (4, "metadata.name is empty"),
                (6, "`maybe` is no answer to onUnknown; write allow, warn or deny"),
                (8, &*format!("no rule is called `floating-tags`; there are {rules}")),
                (9, "`error` is no level; write off, warn or deny"),
                (11, "names must hold names; `*` stands for all"),
                (15, &format!("no rule is called `nope`; there are {rules}")),
                (16, "reason is empty; an exception says why"),
                (17, "`2027-02-30` is no date; write it as 2027-01-31"),
            ]
        );
    }

    #[test]
    fn faults_of_form_name_the_line_and_the_field() {
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
            let error = errors.iter().next().unwrap();
            assert_eq!(error.line, line, "{tail:?}: {error:?}");
            assert!(error.message.contains(part), "{tail:?}: {error:?}");
            assert!(!error.message.contains("line "), "{error:?}");
        }
    }

    #[test]
    fn an_accepted_base_stands_by_digest() {
        let base =
            "quay.io/acme/hotfix@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        let policy = parse(&format!("{HEAD}spec:\n  acceptedBases:\n  - {base}\n")).unwrap();
        assert_eq!(policy.accepted_bases(), [ImageReference::parse(base).unwrap()]);
        let text = format!("{HEAD}spec:\n  acceptedBases:\n  - quay.io/acme/hotfix:1\n  - hotfix\n");
        let errors = parse(&text).unwrap_err();
        let found: Vec<_> = errors.iter().map(|error| (error.line, error.message.as_str())).collect();
        let short = ImageReference::parse("hotfix").unwrap_err().to_string();
        assert_eq!(
            found,
            [
                (7, "`quay.io/acme/hotfix:1` is no base; write it as repository@sha256:<digest>"),
                (8, short.as_str()),
            ]
        );
    }

    #[test]
    fn an_empty_file_is_no_policy() {
        assert!(parse("").is_err());
        assert!(parse(&format!("{HEAD}---\n{HEAD}")).is_err());
        assert!(parse(&format!("{HEAD}# {}\n", "x".repeat(MAX_BYTES))).is_err());
    }

    #[test]
    fn the_hash_follows_the_text() {
        let one = parse(HEAD).unwrap();
        let other = parse(&format!("{HEAD}# more\n")).unwrap();
        assert_eq!(one.hash().len(), 16);
        assert_ne!(one.hash(), other.hash());
    }

    #[test]
    fn off_is_a_level_and_no_boolean() {
        let policy = parse(&format!("{HEAD}spec:\n  rules: {{floating-tag: off}}\n")).unwrap();
        assert_eq!(policy.level(rule("floating-tag").unwrap(), &[]).level, Level::Off);
    }
}
