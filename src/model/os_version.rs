//! Versions of the operating system, as the labels of its images write them.
//!
//! Owns which texts are versions that can be compared: those of RHEL CoreOS and CentOS Stream CoreOS in
//! their two forms, and those of Fedora CoreOS. Other texts, such as the version of a custom image, are not.

use std::collections::BTreeMap;

/// A version of the operating system. Only versions of the same family can be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OsVersion {
    text: String,
    family: Family,
    release: Option<u64>,
    system: (u64, u64),
    build: Vec<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Enterprise,
    Fedora,
}

impl OsVersion {
    /// Reads the version in the labels of an image. `None` when there is none.
    pub fn of_labels(labels: &BTreeMap<String, String>) -> Option<Self> {
        let direct = ["org.opencontainers.image.version", "version"].iter();
        let parts = labels.get("io.openshift.build.versions").into_iter().flat_map(|text| text.split(','));
        let machine_os = parts.filter_map(|part| part.trim().strip_prefix("machine-os="));
        direct.filter_map(|key| labels.get(*key)).map(String::as_str).chain(machine_os).find_map(Self::parse)
    }

    /// Reads `418.94.202509100000-0`, `9.6.20251201-1` or `43.20251024.3.0`. `None` for other texts.
    pub fn parse(text: &str) -> Option<Self> {
        let numbers: Vec<u64> =
            text.split(['.', '-']).map(|part| part.parse().ok()).collect::<Option<_>>()?;
        let is_date = |number: u64| (20_000_000..=999_999_999_999).contains(&number);
        let (family, release, system, build) = match numbers[..] {
            [release, system, date, build] if (400..1000).contains(&release) && is_date(date) => {
                (Family::Enterprise, Some(release), digits(system)?, vec![day(date), date, build])
            }
            [major, minor, date, build] if major < 100 && minor < 100 && is_date(date) => {
                (Family::Enterprise, None, (major, minor), vec![day(date), date, build])
            }
            [major, date, stream, build] if major < 100 && is_date(date) => {
                (Family::Fedora, None, (major, 0), vec![date, stream, build])
            }
            _ => return None,
        };
        Some(Self { text: text.to_owned(), family, release, system, build })
    }

    /// Tells whether this version is certainly older than `other`.
    pub fn is_older_than(&self, other: &Self) -> bool {
        if self.family != other.family {
            return false;
        }
        if let (Some(own), Some(theirs)) = (self.release, other.release)
            && own != theirs
        {
            return own < theirs;
        }
        if self.system != other.system {
            return self.system < other.system;
        }
        // One form has a date with the time, the other without it, so only the day can be compared.
        match self.release.is_some() == other.release.is_some() {
            true => self.build < other.build,
            false => self.build[0] < other.build[0],
        }
    }

    /// The version as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// `94` is 9.4, `810` is 8.10, and `9` is 9 with unknown minor.
fn digits(system: u64) -> Option<(u64, u64)> {
    match system {
        0..10 => Some((system, 0)),
        10..20 => Some((10, system - 10)),
        20..100 => Some((system / 10, system % 10)),
        100..200 => Some((10, system % 100)),
        200..1000 => Some((system / 100, system % 100)),
        _ => None,
    }
}

/// The day of a date that may have a time after it.
fn day(date: u64) -> u64 {
    if date > 99_999_999 { date / 10_000 } else { date }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_a_family_are_compared_across_its_two_forms() {
        for (one, other, older) in [
            ("418.94.202509100000-0", "418.94.202509100000-1", true),
            ("418.94.202509100000-0", "418.94.202509100001-0", true),
            ("417.94.202601010000-0", "418.94.202509100000-0", true),
            ("412.86.202302091057-0", "413.92.202301010000-0", true),
            ("418.94.202509100000-0", "9.6.20251201-1", true),
            ("9.6.20251201-1", "418.94.202509100000-0", false),
            ("9.6.20251201-0", "9.6.20251201-1", true),
            ("9.6.20251201-0", "10.1.20251101-0", true),
            ("9.10.20251201-0", "9.6.20251201-0", false),
            ("43.20251024.3.0", "43.20251025.1.0", true),
            ("42.20251224.3.0", "43.20251025.1.0", true),
            ("43.20251024.3.0", "418.94.202509100000-0", false),
        ] {
            let [first, second] = [one, other].map(|text| OsVersion::parse(text).unwrap());
            assert_eq!(first.is_older_than(&second), older, "{one} against {other}");
            assert!(!(older && second.is_older_than(&first)), "{other} against {one}");
            assert!(!first.is_older_than(&first), "{one}");
        }
    }

    #[test]
    fn other_versions_are_not_compared() {
        for text in ["", "1.2.3", "1.2.3-4", "v4.18", "4.18.14", "418.94.x-0", "418.94", "9.6.1-1"] {
            assert_eq!(OsVersion::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_first_label_with_a_version_counts() {
        let labels = BTreeMap::from(
            [
                ("org.opencontainers.image.version", "1.2.3"),
                ("io.openshift.build.versions", "kubelet=1.31, machine-os=416.94.202409040013-0"),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned())),
        );
        assert_eq!(OsVersion::of_labels(&labels).unwrap().as_str(), "416.94.202409040013-0");
        assert_eq!(OsVersion::of_labels(&BTreeMap::new()), None);
    }
}
