//! Image references as nodes read them, with the text as written and the place of each part.
//!
//! Owns the grammar `host[:port]/path[:tag][@digest]`. What it accepts is what `containers/image`
//! accepts on a node, except short names, for which a node would have to guess a registry. Every error
//! says which part is wrong and shows it.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

use derive_more::Display;
use serde::{Deserialize, Serialize};

use crate::model::digest::{Digest, DigestError};
use crate::model::pull_spec::{DEFAULT_TAG, PullSpec};
use crate::text::shown;

/// A reference to an image in a named registry, for example `quay.io/acme/os:4.18`.
///
/// It may have both a tag and a digest: `containers/image` parses that form and then refuses to pull
/// it, so a rule reports it and the parser accepts it.
#[derive(Clone, Debug, Display, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[display("{text}")]
#[serde(try_from = "String", into = "String")]
pub struct ImageReference {
    text: Arc<str>,
    host_end: usize,
    name_end: usize,
    tag_end: Option<usize>,
    digest: Option<Digest>,
}

impl ImageReference {
    /// Parses a reference as a MachineConfig has it, at most 255 characters of name, 128 of
    /// tag. Fails with the part that is wrong and where it is.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        Parser { text }.reference()
    }

    /// The reference exactly as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The registry: `host` or `host:port`, as written.
    pub fn host(&self) -> &str {
        &self.text[..self.host_end]
    }

    /// The repository inside the registry, as written.
    pub fn path(&self) -> &str {
        &self.text[self.host_end + 1..self.name_end]
    }

    /// Host and path: what stays the same when the image is pinned.
    pub fn repository(&self) -> &str {
        &self.text[..self.name_end]
    }

    /// The tag as written, `None` when there is none.
    pub fn tag(&self) -> Option<&str> {
        self.tag_end.map(|end| &self.text[self.name_end + 1..end])
    }

    /// The tag that a node would pull: the written one, or `latest` when there is neither tag nor
    /// digest (`reference.TagNameOnly` of `containers/image`). `None` when a digest decides.
    pub fn effective_tag(&self) -> Option<&str> {
        match (&self.digest, self.tag()) {
            (Some(_), _) => None,
            (None, Some(tag)) => Some(tag),
            (None, None) => Some(DEFAULT_TAG),
        }
    }

    /// The digest, `None` when there is none.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Tells whether the reference is `repository@digest`: always the same image, and pullable by nodes.
    pub fn is_pinned(&self) -> bool {
        self.digest.is_some() && self.tag_end.is_none()
    }

    /// The same repository by digest alone, without the tag.
    pub fn pinned_to(&self, digest: &Digest) -> Self {
        let text = [self.repository(), "@", digest.as_str()].concat().into();
        Self { text, digest: Some(digest.clone()), tag_end: None, ..*self }
    }

    /// The same repository by tag alone. `None` when `tag` is not a valid tag.
    pub fn with_tag(&self, tag: &str) -> Option<Self> {
        let fits = (1..=MAX_TAG).contains(&tag.len());
        let is_tag =
            fits && tag.chars().enumerate().all(|(index, character)| is_tag_character(index, character));
        is_tag.then(|| {
            let text: Arc<str> = [self.repository(), ":", tag].concat().into();
            Self { tag_end: Some(text.len()), text, digest: None, ..*self }
        })
    }

    /// The reference as it is sent to a registry.
    pub fn pull_spec(&self) -> PullSpec {
        self.clone().into()
    }

    /// The host that serves the registry's API: the written one, except for Docker Hub, whose API is on
    /// another host.
    pub fn api_host(&self) -> &str {
        match self.host() {
            "docker.io" | "index.docker.io" => "registry-1.docker.io",
            host => host,
        }
    }

    /// The repository as the registry's API names it: Docker Hub's official images are in `library/`.
    pub fn api_path(&self) -> String {
        match (self.host(), self.path()) {
            ("docker.io" | "index.docker.io", path) if !path.contains('/') => format!("library/{path}"),
            (_, path) => path.to_owned(),
        }
    }

    /// Where `part` is in the text, in bytes. `None` when the reference has no such part.
    pub fn span(&self, part: Part) -> Option<Range<usize>> {
        match part {
            Part::Whole => Some(0..self.text.len()),
            Part::Host => Some(0..self.host_end),
            Part::Path => Some(self.host_end + 1..self.name_end),
            Part::Tag => self.tag_end.map(|end| self.name_end + 1..end),
            Part::Digest => {
                self.digest.as_ref().map(|digest| self.text.len() - digest.as_str().len()..self.text.len())
            }
        }
    }
}

impl FromStr for ImageReference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl TryFrom<String> for ImageReference {
    type Error = ReferenceError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<ImageReference> for String {
    fn from(reference: ImageReference) -> Self {
        reference.text.as_ref().to_owned()
    }
}

/// A part of a reference.
#[derive(Clone, Copy, Debug, Display, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    #[display("reference")]
    Whole,
    /// The registry, with its port.
    #[display("registry")]
    Host,
    /// The repository inside the registry.
    #[display("repository path")]
    Path,
    /// The tag.
    #[display("tag")]
    Tag,
    /// The digest.
    #[display("digest")]
    Digest,
}

/// Why a text is not a valid image reference: the part, its position, and the fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferenceError {
    text: String,
    part: Part,
    span: Range<usize>,
    fault: ReferenceFault,
}

impl ReferenceError {
    /// The part that is wrong.
    pub fn part(&self) -> Part {
        self.part
    }

    /// Where the wrong part is in the text, in bytes.
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// What is wrong with it.
    pub fn fault(&self) -> &ReferenceFault {
        &self.fault
    }

    /// One thing to do about it.
    pub fn help(&self) -> String {
        match &self.fault {
            ReferenceFault::Transport(prefix) => {
                let rest = self.text[prefix.len()..].trim_start_matches(['/', ':']);
                match ImageReference::parse(rest) {
                    Ok(reference) => format!("write `{reference}`"),
                    Err(_) => "write the image alone: registry/path@sha256:<digest>".to_owned(),
                }
            }
            ReferenceFault::OuterSpace => format!("write `{}`", shown(self.text.trim())),
            ReferenceFault::NoRegistry | ReferenceFault::BareIdentifier => {
                "put the registry in front: registry.example.com/path@sha256:<digest>".to_owned()
            }
            ReferenceFault::Digest(_) => {
                "copy the whole digest; `skopeo inspect --format '{{.Digest}}' docker://IMAGE` prints it"
                    .to_owned()
            }
            ReferenceFault::Brackets => {
                "give the registry a name in DNS: registry.example.com/path@sha256:<digest>".to_owned()
            }
            ReferenceFault::UpperCase => format!("write it in lower case: `{}`", self.text.to_lowercase()),
            _ => "write registry/path@sha256:<digest>".to_owned(),
        }
    }
}

impl fmt::Display for ReferenceError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.part == Part::Whole {
            return write!(formatter, "`{}` {}", shown(&self.text), self.fault);
        }
        let part = shown(&self.text[self.span.clone()]);
        write!(formatter, "the {} `{part}` of `{}` {}", self.part, shown(&self.text), self.fault)
    }
}

impl std::error::Error for ReferenceError {}

/// What is wrong with a part of a reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceFault {
    /// Nothing is there.
    #[error("is empty")]
    Empty,
    /// White space before or after the reference.
    #[error("has white space around it")]
    OuterSpace,
    /// A prefix such as `docker://`, which nodes add themselves.
    #[error("begins with the transport `{0}`; nodes add their own")]
    Transport(String),
    /// A short name: no registry in front.
    #[error("names no registry; there is no default one")]
    NoRegistry,
    /// 64 hex digits alone: the identifier of an image, not its name.
    #[error("is an image identifier; nodes cannot pull by identifier")]
    BareIdentifier,
    /// A character that the part may not have.
    #[error("has {0:?}, which is not allowed there")]
    Character(char),
    /// Upper-case letters in the repository path.
    #[error("has upper-case letters; repository paths are lower case")]
    UpperCase,
    /// A separator where a letter or digit is expected.
    #[error("has a separator where a letter or digit should stand")]
    Separator,
    /// An IPv6 address. The grammar of `containers/image` has no brackets (`docker/reference/regexp.go`),
    /// though that of the `distribution` project has them.
    #[error("is an address in brackets; nodes accept a host name or an IPv4 address")]
    Brackets,
    /// The port is not a number.
    #[error("has a port that is not a number")]
    Port,
    /// The host and path together are too long.
    #[error("has {0} characters of name; nodes accept {MAX_NAME}")]
    NameTooLong(usize),
    /// The tag is too long.
    #[error("has {0} characters; nodes accept {MAX_TAG}")]
    TagTooLong(usize),
    /// The digest is wrong.
    #[error("{0}")]
    Digest(DigestError),
}

struct Parser<'a> {
    text: &'a str,
}

impl Parser<'_> {
    fn reference(&self) -> Result<ImageReference, ReferenceError> {
        let text = self.text;
        if text.is_empty() {
            return self.fail(Part::Whole, 0..0, ReferenceFault::Empty);
        }
        if text.trim() != text {
            return self.fail(Part::Whole, 0..text.len(), ReferenceFault::OuterSpace);
        }
        if let Some(prefix) = transport(text) {
            let fault = ReferenceFault::Transport(prefix.to_owned());
            return self.fail(Part::Whole, 0..prefix.len(), fault);
        }
        let (tagged_end, digest) = self.digest()?;
        let (name_end, tag_end) = self.tag(tagged_end)?;
        let host_end = self.name(name_end)?;
        Ok(ImageReference { text: text.into(), host_end, name_end, tag_end, digest })
    }

    fn digest(&self) -> Result<(usize, Option<Digest>), ReferenceError> {
        let Some(at) = self.text.find('@') else {
            return Ok((self.text.len(), None));
        };
        let span = at + 1..self.text.len();
        if span.is_empty() {
            return self.fail(Part::Digest, span, ReferenceFault::Empty);
        }
        match Digest::parse(&self.text[span.clone()]) {
            Ok(digest) => Ok((at, Some(digest))),
            Err(error) => self.fail(Part::Digest, span, ReferenceFault::Digest(error)),
        }
    }

    fn tag(&self, end: usize) -> Result<(usize, Option<usize>), ReferenceError> {
        let path_start = self.text[..end].rfind('/').map_or(0, |slash| slash + 1);
        let Some(colon) = self.text[path_start..end].find(':').map(|colon| path_start + colon) else {
            return Ok((end, None));
        };
        let span = colon + 1..end;
        let tag = &self.text[span.clone()];
        let fault = match tag.chars().enumerate().find(|(index, c)| !is_tag_character(*index, *c)) {
            _ if tag.is_empty() => ReferenceFault::Empty,
            Some((_, character)) => ReferenceFault::Character(character),
            None if tag.len() > MAX_TAG => ReferenceFault::TagTooLong(tag.len()),
            None => return Ok((colon, Some(end))),
        };
        self.fail(Part::Tag, span, fault)
    }

    fn name(&self, end: usize) -> Result<usize, ReferenceError> {
        let name = &self.text[..end];
        if name.is_empty() {
            return self.fail(Part::Whole, 0..self.text.len(), ReferenceFault::NoRegistry);
        }
        let slash = name.find('/').filter(|slash| is_registry(&name[..*slash]));
        let Some(host_end) = slash else {
            let fault = if name.len() == 64 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
                ReferenceFault::BareIdentifier
            } else if let Some(character) = name.chars().find(|c| !is_name_character(*c)) {
                ReferenceFault::Character(character)
            } else {
                ReferenceFault::NoRegistry
            };
            return self.fail(Part::Whole, 0..self.text.len(), fault);
        };
        self.host(host_end)?;
        let mut start = host_end + 1;
        for component in name[start..].split('/') {
            let span = start..start + component.len();
            if let Some(fault) = path_component_fault(component) {
                let span = if component.is_empty() { host_end + 1..end } else { span };
                return self.fail(Part::Path, span, fault);
            }
            start = span.end + 1;
        }
        // Nodes count the name after normalizing it, which lengthens official images of Docker Hub.
        let official = matches!(&name[..host_end], "docker.io") && !name[host_end + 1..].contains('/');
        let length = name.len() + if official { "library/".len() } else { 0 };
        if length > MAX_NAME {
            return self.fail(Part::Whole, 0..end, ReferenceFault::NameTooLong(length));
        }
        Ok(host_end)
    }

    fn host(&self, end: usize) -> Result<(), ReferenceError> {
        let host = &self.text[..end];
        let (name, port) = host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port)));
        let fault = if host.starts_with('[') {
            Some(ReferenceFault::Brackets)
        } else if let Some(character) =
            name.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '-'))
        {
            Some(ReferenceFault::Character(character))
        } else if name
            .split('.')
            .any(|label| label.is_empty() || label.starts_with('-') || label.ends_with('-'))
        {
            Some(ReferenceFault::Separator)
        } else {
            port.filter(|port| port.is_empty() || port.bytes().any(|byte| !byte.is_ascii_digit()))
                .map(|_| ReferenceFault::Port)
        };
        match fault {
            Some(fault) => self.fail(Part::Host, 0..end, fault),
            None => Ok(()),
        }
    }

    fn fail<T>(&self, part: Part, span: Range<usize>, fault: ReferenceFault) -> Result<T, ReferenceError> {
        Err(ReferenceError { text: self.text.to_owned(), part, span, fault })
    }
}

/// The first component is a registry when a node would take it for one: it has a dot or a port, or
/// is `localhost` (`splitDockerDomain` of `containers/image`).
fn is_registry(component: &str) -> bool {
    component.contains(['.', ':']) || component == "localhost"
}

fn is_name_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-' | '/' | ':')
}

fn is_tag_character(index: usize, character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_' || (index > 0 && matches!(character, '.' | '-'))
}

/// Letters and digits, separated by one `.`, one or two `_`, or any number of `-`.
fn path_component_fault(component: &str) -> Option<ReferenceFault> {
    if component.is_empty() {
        return Some(ReferenceFault::Empty);
    }
    if component.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) {
        return None;
    }
    if let Some(character) =
        component.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '_' | '-'))
    {
        return Some(ReferenceFault::Character(character));
    }
    if component.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Some(ReferenceFault::UpperCase);
    }
    let mut runs = component.split(|c: char| c.is_ascii_alphanumeric()).filter(|run| !run.is_empty());
    let edge = component.starts_with(['.', '_', '-']) || component.ends_with(['.', '_', '-']);
    let odd = runs.any(|run| !matches!(run, "." | "_" | "__") && run.bytes().any(|byte| byte != b'-'));
    (edge || odd).then_some(ReferenceFault::Separator)
}

/// The transport in front, as `containers/image` and `rpm-ostree` name them, when there is one.
fn transport(text: &str) -> Option<&str> {
    let (name, rest) = text.split_once(':')?;
    if rest.starts_with("//") {
        return Some(&text[..name.len() + 3]);
    }
    let known = TRANSPORTS.contains(&name) || (name.starts_with("ostree-") && !name.contains(['/', '.']));
    // `oci:5000/os` is a registry named `oci` with a port.
    let port = || rest.split('/').next().is_some_and(|first| first.bytes().all(|b| b.is_ascii_digit()));
    (known && !port()).then(|| &text[..=name.len()])
}

/// `NameTotalLengthMax` of `containers/image`.
const MAX_NAME: usize = 255;
/// The tag pattern of the OCI distribution specification: one character and 127 more.
const MAX_TAG: usize = 128;
const TRANSPORTS: [&str; 9] = [
    "docker",
    "docker-archive",
    "docker-daemon",
    "containers-storage",
    "oci",
    "oci-archive",
    "dir",
    "registry",
    "sif",
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[derive(Deserialize)]
    struct Vector {
        text: String,
        short: bool,
        node: Option<NodeParts>,
    }

    #[derive(Deserialize)]
    struct NodeParts {
        domain: String,
        path: String,
        tag: String,
        digest: String,
    }

    #[test]
    fn references_are_read_as_nodes_read_them() {
        let vectors = include_str!("../../tests/vectors/image_references.jsonl");
        let mut accepted = 0;
        for line in vectors.lines() {
            let vector: Vector = serde_json::from_str(line).unwrap();
            let parsed = ImageReference::parse(&vector.text);
            let Some(node) = vector.node.filter(|_| !vector.short) else {
                assert!(parsed.is_err(), "{:?} should be refused", vector.text);
                continue;
            };
            let reference = parsed.unwrap_or_else(|error| panic!("{:?}: {error}", vector.text));
            accepted += 1;
            let host = reference.host().replace("index.docker.io", "docker.io");
            assert_eq!((host, reference.api_path()), (node.domain, node.path), "{:?}", vector.text);
            assert_eq!(reference.tag().unwrap_or_default(), node.tag, "{:?}", vector.text);
            assert_eq!(reference.digest().map_or("", Digest::as_str), node.digest, "{:?}", vector.text);
        }
        assert!(accepted > 100, "only {accepted} vectors were accepted");
    }

    #[test]
    fn every_refusal_shows_the_part_that_is_wrong() {
        for (text, message) in [
            ("", "`` is empty"),
            (" quay.io/acme/os", "` quay.io/acme/os` has white space around it"),
            ("os:4.18", "`os:4.18` names no registry; there is no default one"),
            ("acme/os:4.18", "`acme/os:4.18` names no registry; there is no default one"),
            (HEX, &format!("`{HEX}` is an image identifier; nodes cannot pull by identifier")),
            (
                "docker://quay.io/acme/os",
                "`docker://quay.io/acme/os` begins with the transport `docker://`; nodes add their own",
            ),
            (
                "ostree-unverified-registry:quay.io/acme/os",
                "`ostree-unverified-registry:quay.io/acme/os` begins with the transport \
                 `ostree-unverified-registry:`; nodes add their own",
            ),
            (
                "quay.io/Acme/os",
                "the repository path `Acme` of `quay.io/Acme/os` has upper-case letters; repository paths are lower case",
            ),
            ("quay.io/acme//os", "the repository path `acme//os` of `quay.io/acme//os` is empty"),
            (
                "quay.io/acme/os:4 18",
                "the tag `4 18` of `quay.io/acme/os:4 18` has ' ', which is not allowed there",
            ),
            ("quay.io/acme/os:", "the tag `` of `quay.io/acme/os:` is empty"),
            (
                "quay.io:x/acme/os",
                "the registry `quay.io:x` of `quay.io:x/acme/os` has a port that is not a number",
            ),
            (
                "[2001:db8::1]:5000/acme/os:4.18",
                "the registry `[2001:db8::1]:5000` of `[2001:db8::1]:5000/acme/os:4.18` is an address in brackets; \
                 nodes accept a host name or an IPv4 address",
            ),
            (
                "quay.io/acme/os@sha256:abc",
                "the digest `sha256:abc` of `quay.io/acme/os@sha256:abc` has 3 hex digits, but sha256 has 64",
            ),
            (
                "a.b/c\u{7}d",
                "the repository path `c\\u{7}d` of `a.b/c\\u{7}d` has '\\u{7}', which is not allowed there",
            ),
        ] {
            assert_eq!(ImageReference::parse(text).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn help_writes_the_value_where_it_is_plain_what_was_meant() {
        let help = |text| ImageReference::parse(text).unwrap_err().help();
        assert_eq!(help("docker://quay.io/acme/os:1"), "write `quay.io/acme/os:1`");
        assert_eq!(help("ostree-unverified-registry:quay.io/acme/os:1"), "write `quay.io/acme/os:1`");
        assert_eq!(help(" quay.io/acme/os:1\n"), "write `quay.io/acme/os:1`");
        assert_eq!(help("quay.io/Acme/os"), "write it in lower case: `quay.io/acme/os`");
        assert_eq!(
            help("[::1]/os:1"),
            "give the registry a name in DNS: registry.example.com/path@sha256:<digest>"
        );
    }

    #[test]
    fn a_registry_that_begins_like_a_transport_is_none() {
        for text in ["ostree-os.example.com/acme/os:1", "ostree-os:5000/acme/os:1", "oci:5000/acme/os:1"] {
            let reference = ImageReference::parse(text).unwrap();
            assert_eq!((reference.path(), reference.tag()), ("acme/os", Some("1")));
        }
    }

    #[test]
    fn a_tag_takes_the_place_of_tag_and_digest() {
        let digest = format!("quay.io:443/acme/os@sha256:{HEX}");
        for text in ["quay.io:443/acme/os", "quay.io:443/acme/os:4.18", &digest] {
            let reference = ImageReference::parse(text).unwrap();
            let tagged = reference.with_tag("4.19").unwrap();
            assert_eq!(tagged, ImageReference::parse("quay.io:443/acme/os:4.19").unwrap());
            for tag in ["", "4 19", "-x", &"x".repeat(MAX_TAG + 1)] {
                assert_eq!(reference.with_tag(tag), None, "{tag}");
            }
        }
    }

    #[test]
    fn pinning_drops_the_tag_and_keeps_the_repository() {
        let digest = Digest::parse(&format!("sha256:{HEX}")).unwrap();
        let both = format!("quay.io:443/acme/os:4.18@sha256:{HEX}");
        for text in ["quay.io:443/acme/os:4.18", "quay.io:443/acme/os", &both] {
            let pinned = ImageReference::parse(text).unwrap().pinned_to(&digest);
            assert_eq!(pinned.as_str(), format!("quay.io:443/acme/os@sha256:{HEX}"));
            assert_eq!(ImageReference::parse(pinned.as_str()).unwrap(), pinned);
            assert!(pinned.is_pinned());
        }
    }

    #[test]
    fn spans_are_the_places_of_the_parts() {
        let text = format!("quay.io:443/acme/os:4.18@sha256:{HEX}");
        let reference = ImageReference::parse(&text).unwrap();
        let part = |part| &text[reference.span(part).unwrap()];
        assert_eq!(part(Part::Host), "quay.io:443");
        assert_eq!(part(Part::Path), "acme/os");
        assert_eq!(part(Part::Tag), "4.18");
        assert_eq!(part(Part::Digest), format!("sha256:{HEX}"));
        assert_eq!(reference.effective_tag(), None);
        assert!(!reference.is_pinned());
    }

    #[test]
    fn docker_hub_is_asked_where_it_answers() {
        let reference = ImageReference::parse("docker.io/fedora").unwrap();
        assert_eq!(
            (reference.api_host(), reference.api_path().as_str()),
            ("registry-1.docker.io", "library/fedora")
        );
        assert_eq!(reference.effective_tag(), Some("latest"));
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_prints_as_it_was_written(text in "[a-zA-Z0-9.:/@_ -]{0,60}") {
            if let Ok(reference) = ImageReference::parse(&text) {
                prop_assert_eq!(reference.as_str(), &text);
                let repository = ImageReference::parse(reference.repository()).unwrap();
                prop_assert_eq!(repository.tag(), None);
            }
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in any::<String>()) {
            if let Err(error) = ImageReference::parse(&text) {
                prop_assert!(!error.to_string().is_empty());
                prop_assert!(!error.help().is_empty());
                prop_assert!(text.get(error.span()).is_some());
            }
        }
    }
}
