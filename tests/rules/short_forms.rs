//! The short forms of the case files, expanded.
//!
//! `tests/rules/cases.rs` describes them. Here YAML values become longer YAML values; what they mean is
//! left to the types that read the result.

use serde_json::{Map, Value, json};

/// A release of the ordinary cluster, or the `rhel-10` stream of one: each name stands for its images.
struct Release {
    name: &'static str,
    digits: &'static str,
    layers: &'static [&'static str],
    version: &'static str,
}

const RELEASES: [Release; 4] = [
    Release {
        name: "4.18.13",
        digits: "13",
        layers: &["rhel", "packages of 13", "meta of 13"],
        version: "418.94.202601130000-0",
    },
    Release {
        name: "4.18.14",
        digits: "14",
        layers: &["rhel", "packages of 14", "meta of 14"],
        version: "418.94.202601140000-0",
    },
    Release {
        name: "4.18.15",
        digits: "15",
        layers: &["rhel", "packages of 15", "meta of 15"],
        version: "418.94.202601150000-0",
    },
    Release {
        name: "rhel-10",
        digits: "10",
        layers: &["rhel 10", "packages of 10"],
        version: "10.1.20260114-0",
    },
];

impl Release {
    fn named(name: &str) -> &'static Self {
        RELEASES.iter().find(|release| release.name == name).unwrap_or_else(|| panic!("no release `{name}`"))
    }

    /// The OS image, which other images are built on.
    fn base(&self) -> String {
        format!("quay.io/ocp/os@sha256:{}", self.digits.repeat(32))
    }

    fn payload(&self) -> String {
        format!("quay.io/ocp/release@sha256:{}", self.digits.replacen('1', "a", 1).repeat(32))
    }

    fn in_history(&self) -> Value {
        json!({"version": self.name, "image": self.payload()})
    }

    /// An image with `layers` above those of the base, for one platform.
    fn image(&self, platform: &str, layers: Value, labels: Value) -> Value {
        let suffix = if platform == "linux/arm64" { "-arm64" } else { "" };
        let mut all: Vec<_> = self.layers.iter().map(|layer| json!(format!("{layer}{suffix}"))).collect();
        let last = all[1].clone();
        all.extend(list(layers));
        let mut all_labels = mapping(json!({
            "ostree.bootable": "true",
            "ostree.final-diffid": last,
            "org.opencontainers.image.version": self.version,
        }));
        all_labels.extend(mapping(labels));
        json!({"layers": all, "labels": all_labels})
    }
}

/// A case of the file of `rule`, expanded.
pub(crate) fn expand(case: Value, rule: &str) -> Value {
    let mut case = mapping(case);
    let expect = case.remove("expect").unwrap_or_default();
    let mut case = mapping(repeat_digits(Value::Object(case)));
    let object =
        case.remove("object").unwrap_or_else(|| json!({"osImageURL": format!("quay.io/acme/os@{DIGEST}")}));
    let object = expand_object(object);
    if let Some(facts) = case.remove("facts") {
        let reference = object["spec"]["osImageURL"].as_str().unwrap_or_default();
        case.insert("facts".to_owned(), expand_facts(facts, reference));
    }
    if let Some(stored) = case.remove("stored") {
        case.insert("stored".to_owned(), expand_object(stored));
    }
    case.insert("object".to_owned(), object);
    case.insert("expect".to_owned(), expand_expectation(expect, rule));
    Value::Object(case)
}

fn expand_object(short: Value) -> Value {
    if short.get("kind").is_some() {
        return short;
    }
    let mut spec = mapping(short);
    let name = spec.remove("name").unwrap_or_else(|| json!("99-worker-os"));
    let mut metadata = Map::from_iter([("name".to_owned(), name)]);
    let role = spec.remove("role").unwrap_or_else(|| json!("worker"));
    if !role.is_null() {
        metadata.insert("labels".to_owned(), json!({ROLE: role}));
    }
    if let Some(annotations) = spec.remove("annotations") {
        metadata.insert("annotations".to_owned(), annotations);
    }
    json!({
        "apiVersion": "machineconfiguration.openshift.io/v1", "kind": "MachineConfig",
        "metadata": metadata, "spec": spec,
    })
}

fn expand_facts(facts: Value, reference: &str) -> Value {
    let mut facts = mapping(facts);
    for (one, all) in [("manifest", "manifests"), ("image", "images")] {
        if let Some(fact) = facts.remove(one) {
            facts_at(&mut facts, all).insert(reference.to_owned(), fact);
        }
    }
    if let Some(manifests) = facts.get_mut("manifests") {
        each(manifests, |reference, manifest| {
            fact(manifest, |manifest| expand_manifest(manifest, reference))
        });
    }
    if let Some(images) = facts.get_mut("images") {
        each(images, |_, image| fact(image, expand_image));
    }
    for (name, image) in mapping(facts.remove("bases").unwrap_or_default()) {
        let image = if image.is_array() { json!({"from": name, "platforms": image}) } else { image };
        facts_at(&mut facts, "images").insert(Release::named(&name).base(), fact(image, expand_image));
    }
    if let Some(payloads) = facts.remove("payloads") {
        let payloads = match payloads {
            Value::Array(releases) => {
                releases.iter().map(|release| ordinary_payload(text(release))).collect()
            }
            payloads => mapping(payloads),
        };
        let payloads = payloads
            .into_iter()
            .map(|(release, payload)| (Release::named(&release).payload(), fact(payload, |payload| payload)));
        facts.insert("payloads".to_owned(), payloads.collect());
    }
    if let Some(cluster) = facts.get_mut("cluster") {
        *cluster = expand_cluster(cluster.take());
    }
    Value::Object(facts)
}

fn ordinary_payload(release: &str) -> (String, Value) {
    let os_images = json!({"rhel-coreos": {"reference": Release::named(release).base()}});
    (release.to_owned(), json!({"version": release, "osImages": os_images}))
}

fn expand_manifest(manifest: Value, reference: &str) -> Value {
    if !manifest.is_string() {
        return manifest;
    }
    let digest = reference.split_once('@').map_or(DIGEST, |(_, digest)| digest);
    let endpoint = reference.split('/').next();
    json!({"digest": digest, "kind": manifest, "endpoint": endpoint})
}

fn expand_image(image: Value) -> Value {
    let image = mapping(image);
    let by_platform = image.keys().all(|key| key.contains('/'));
    let platforms = if by_platform {
        image
    } else {
        let platforms = image.get("platforms").cloned().unwrap_or_else(|| json!(["amd64"]));
        let platforms = list(platforms)
            .into_iter()
            .map(|architecture| (format!("linux/{}", text(&architecture)), Value::Object(image.clone())));
        platforms.collect()
    };
    let mut platforms = Value::Object(platforms);
    each(&mut platforms, |platform, image| fact(image, |image| expand_platform(image, platform)));
    json!({"platforms": platforms})
}

fn expand_platform(image: Value, platform: &str) -> Value {
    let mut image = mapping(image);
    image.remove("platforms");
    let Some(name) = image.remove("from") else { return Value::Object(image) };
    let [layers, labels] = ["layers", "labels"].map(|key| image.remove(key).unwrap_or_default());
    image.extend(mapping(Release::named(text(&name)).image(platform, layers, labels)));
    Value::Object(image)
}

fn expand_cluster(cluster: Value) -> Value {
    let mut cluster =
        if cluster.is_string() { mapping(json!({"release": cluster})) } else { mapping(cluster) };
    if let Some(release) = cluster.remove("release") {
        let release = Release::named(text(&release));
        let ordinary = mapping(json!({
            "version": {"desired": release.name, "history": [release.name, "4.18.13"]},
            "controllerConfig": {"baseOsContainerImage": release.base(), "releaseVersion": release.name},
            "osImageUrl": "absent",
            "streams": "absent",
            "pools": {"worker": {"amd64": 3}},
            "machineConfigs": [],
        }));
        for (field, value) in ordinary {
            cluster.entry(field).or_insert(value);
        }
    }
    let mut cluster = Value::Object(cluster);
    each(&mut cluster, |field, value| {
        fact(value, |value| match field {
            "version" => expand_version(value),
            "pools" => mapping(value).into_iter().map(|(name, pool)| expand_pool(&name, pool)).collect(),
            "machineConfigs" => list(value).into_iter().map(expand_machine_config).collect(),
            _ => value,
        })
    });
    cluster
}

fn expand_version(version: Value) -> Value {
    let mut version = mapping(version);
    let release = |name: &str| Release::named(name).in_history();
    if let Some(Value::String(name)) = version.get("desired") {
        let desired = release(name);
        version.insert("desired".to_owned(), desired);
    }
    if let Some(Value::Array(history)) = version.get_mut("history") {
        for entry in history {
            let entry_text = text(entry);
            let (name, state) = entry_text.split_once(' ').unwrap_or((entry_text, "completed"));
            *entry = json!({"release": release(name), "state": state});
        }
    }
    if let Some(Value::Array(available)) = version.get_mut("available") {
        for entry in available {
            *entry = release(text(entry));
        }
    }
    Value::Object(version)
}

fn expand_pool(name: &str, pool: Value) -> Value {
    let mut nodes = mapping(pool);
    let stream = nodes.remove("stream");
    let nodes = nodes.remove("nodes").unwrap_or(Value::Object(nodes));
    let roles = if name == "worker" { json!(["worker"]) } else { json!(["worker", name]) };
    json!({
        "name": name,
        "machineConfigSelector": {"matchExpressions": [{"key": ROLE, "operator": "In", "values": roles}]},
        "osImageStream": stream,
        "paused": false,
        "nodes": fact(nodes, |nodes| nodes),
    })
}

fn expand_machine_config(machine_config: Value) -> Value {
    let mut machine_config = mapping(machine_config);
    if let Some(role) = machine_config.remove("role") {
        machine_config.insert("labels".to_owned(), json!({ROLE: role}));
    }
    Value::Object(machine_config)
}

fn expand_expectation(expect: Value, rule: &str) -> Value {
    let mut expect = match expect {
        Value::String(verdict) => mapping(json!({"verdict": verdict})),
        expect => mapping(expect),
    };
    let verdict = expect.get("verdict").cloned().unwrap_or_default();
    for (list, expected) in &mut expect {
        for expected in expected.as_array_mut().into_iter().flatten() {
            if list == "lineage" {
                *expected = expand_lineage(expected.take());
                continue;
            }
            let finding = expected.as_object_mut().unwrap();
            finding.entry("rule").or_insert_with(|| json!(rule));
            finding.entry("pointer").or_insert_with(|| json!("/spec/osImageURL"));
            if list == "findings" {
                finding.entry("level").or_insert_with(|| verdict.clone());
            }
        }
    }
    Value::Object(expect)
}

fn expand_lineage(lineage: Value) -> Value {
    let mut lineage = mapping(lineage);
    for (short, base, release) in
        [("from", "base", "release"), ("expected", "expectedBase", "expectedRelease")]
    {
        if let Some(name) = lineage.remove(short) {
            lineage.insert(base.to_owned(), json!(Release::named(text(&name)).base()));
            lineage.insert(release.to_owned(), name);
        }
        let reference = lineage.remove(base).map_or(Value::Null, repeat_digits);
        lineage.insert(base.to_owned(), reference);
        lineage.entry(release).or_insert(Value::Null);
    }
    for field in ["pool", "platform", "result", "ownLayers", "reason"] {
        lineage.entry(field).or_insert(Value::Null);
    }
    Value::Object(lineage)
}

/// Expands what is known; `absent` and `unknown` are the other facts.
fn fact(value: Value, expand: impl FnOnce(Value) -> Value) -> Value {
    if value == "absent" || value.get("unknown").is_some() { value } else { json!({"known": expand(value)}) }
}

/// Writes `sha256:14*32` out, which is `14` written 32 times.
fn repeat_digits(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(repeat_digits_in(&text)),
        Value::Array(values) => values.into_iter().map(repeat_digits).collect(),
        Value::Object(values) => {
            values.into_iter().map(|(key, value)| (repeat_digits_in(&key), repeat_digits(value))).collect()
        }
        value => value,
    }
}

fn repeat_digits_in(text: &str) -> String {
    let expanded = || {
        let (head, times) = text.split_once('*')?;
        let (start, digits) = head.rsplit_once(':')?;
        Some(format!("{start}:{}", digits.repeat(times.parse().ok()?)))
    };
    expanded().unwrap_or_else(|| text.to_owned())
}

fn each(values: &mut Value, mut expand: impl FnMut(&str, Value) -> Value) {
    for (key, value) in values.as_object_mut().unwrap() {
        *value = expand(key, value.take());
    }
}

fn facts_at<'a>(values: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    values.entry(key).or_insert_with(|| json!({})).as_object_mut().unwrap()
}

fn mapping(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(mapping) => mapping,
        Value::Null => Map::new(),
        other => panic!("`{other}` is not a mapping"),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("`{value}` is not a string"))
}

fn list(value: Value) -> Vec<Value> {
    match value {
        Value::Array(list) => list,
        Value::Null => Vec::new(),
        other => panic!("`{other}` is not a list"),
    }
}

const ROLE: &str = "machineconfiguration.openshift.io/role";

/// The digest of images whose digest a case does not give.
const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
