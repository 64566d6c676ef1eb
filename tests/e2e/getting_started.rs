//! `docs/getting-started.md`, block by block, as its reader runs it.
//!
//! Where no controllers run, this does the one thing of theirs that a command waits for: pods that are
//! ready, a certificate that is made, a namespace that is gone. `oc` is `kubectl` here.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;

use layerpin_sample_registry::images::Image;
use layerpin_sample_registry::keep_printed;
use layerpin_test_support::repository;
use serde_json::{Value, json};

use crate::cluster::{Turn, take_turn};
use crate::kubectl::Caller;
use crate::servers::tools;

#[test]
fn the_page_leads_from_nothing_to_a_guarded_cluster_and_back() {
    let Some(turn) = take_turn() else { return };
    let reader = Reader::new(&turn);
    let page = std::fs::read_to_string(repository().join("docs/getting-started.md")).unwrap();
    // Its digest is the one on the page, which a change of the sample images would change.
    turn.registry.push("acme/os", Some("4.18"), &Image::base("4.18.1"));
    let here = format!("{}/acme", turn.registry.host());
    let there = "registry.example.com/acme";
    let (mut run, mut compared) = (0, 0);
    let mut blocks = blocks(&page).into_iter().peekable();
    while let Some((language, text)) = blocks.next() {
        assert_eq!(language, "sh", "no command stands before:\n{text}");
        if text.lines().all(|line| ELSEWHERE.iter().any(|words| line.starts_with(words))) {
            continue;
        }
        reader.do_what_controllers_would(text);
        let output = reader.run(&text.replace(there, &here));
        if text.contains("apply -k") {
            // The address of the service leads nowhere here, and nobody fills in the authority.
            turn.point_webhooks_at_layerpin();
        }
        run += 1;
        keep_printed("answers", &[&*output.stdout, &output.stderr].concat());
        let succeeded = output.status.success();
        let told = String::from_utf8(if succeeded { output.stdout } else { output.stderr }).unwrap();
        let told = told.replace(&here, there);
        match blocks.next_if(|(language, _)| *language == "text") {
            Some((_, expected)) => {
                compared += 1;
                assert_eq!(told, expected, "{text}");
            }
            None => assert!(succeeded, "{text}\n{told}"),
        }
        if text.contains("delete -f deploy/base/webhooks.yaml") {
            turn.apply(&crate::cluster::machine_config("not-judged", "os")).accepted("nobody is asked");
        }
    }
    assert_eq!((run, compared), (12, 2));
    let left = ["get", "--ignore-not-found", "--output=name"];
    for what in ["namespace/layerpin", "clusterrole/layerpin", "clusterrolebinding/layerpin"] {
        let found = turn.kubectl(Caller::Admin, &[&left[..], &[what]].concat()).accepted("a look").stdout;
        assert_eq!(found, "", "{what}");
    }
    turn.point_webhooks_at_layerpin();
}

/// What `tests/image.rs` runs.
const ELSEWHERE: [&str; 2] = ["make image IMAGE=", "buildah push "];

/// Somebody with a copy of the repository and the right to do everything.
struct Reader<'a> {
    turn: &'a Turn,
    /// The copy, with `oc` and `kubectl` in `programs`.
    folder: tempfile::TempDir,
}

impl<'a> Reader<'a> {
    fn new(turn: &'a Turn) -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy(&repository().join("deploy"), &folder.path().join("deploy"));
        copy(&repository().join("tests/e2e/crds"), &folder.path().join("tests/e2e/crds"));
        let programs = folder.path().join("programs");
        std::fs::create_dir(&programs).unwrap();
        for name in ["oc", "kubectl"] {
            std::os::unix::fs::symlink(tools().unwrap().join("kubectl"), programs.join(name)).unwrap();
        }
        Self { turn, folder }
    }

    /// Runs a block unchanged, in one shell that stops at the first failure.
    fn run(&self, block: &str) -> Output {
        if !block.contains("delete -k ") {
            return self.shell(block).output().unwrap();
        }
        // Deleting waits for the namespace to be gone.
        thread::scope(|scope| {
            let mut finalize = self.shell(FINALIZE);
            // It fails where the namespace is gone already.
            scope.spawn(move || finalize.output());
            self.shell(block).output().unwrap()
        })
    }

    fn shell(&self, block: &str) -> Command {
        let programs = self.folder.path().join("programs");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths([programs].into_iter().chain(std::env::split_paths(&path))).unwrap();
        let kubeconfig = self.turn.kubeconfig_for("reader", &Caller::Admin.token());
        let mut command = Command::new("sh");
        command.args(["-e", "-c", block]).current_dir(self.folder.path()).stdin(Stdio::null());
        command.env("PATH", path).env("KUBECONFIG", kubeconfig).env("HOME", self.folder.path());
        command
    }

    fn do_what_controllers_would(&self, block: &str) {
        if block.contains(" certificate/layerpin-serving ") {
            self.set_status(
                "certificate",
                "layerpin-serving",
                |_| json!({"conditions": [{"type": "Ready", "status": "True"}]}),
            );
        }
        if block.contains(" rollout status ") {
            self.set_status("deployment", "layerpin", |deployment| {
                let count = &deployment["spec"]["replicas"];
                json!({
                    "observedGeneration": deployment["metadata"]["generation"], "replicas": count,
                    "updatedReplicas": count, "readyReplicas": count, "availableReplicas": count,
                })
            });
        }
    }

    fn set_status(&self, kind: &str, name: &str, status: impl FnOnce(&Value) -> Value) {
        let get = ["get", kind, name, "--namespace=layerpin", "--output=json"];
        let object = self.turn.kubectl(Caller::Admin, &get).accepted("an object is there").stdout;
        let status = json!({"status": status(&serde_json::from_str(&object).unwrap())});
        let status = format!("--patch={status}");
        let patch = ["patch", kind, name, "--namespace=layerpin", "--type=merge", &status];
        let subresource = if kind == "deployment" { &["--subresource=status"][..] } else { &[] };
        self.turn.kubectl(Caller::Admin, &[&patch[..], subresource].concat()).accepted("a status is set");
    }
}

/// Lets go of the namespace once somebody has deleted it.
const FINALIZE: &str = r#"
kubectl wait namespace/layerpin --for=jsonpath='{.metadata.deletionTimestamp}' --timeout=60s
echo '{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "layerpin"}, "spec": {"finalizers": []}}' |
    kubectl replace --raw=/api/v1/namespaces/layerpin/finalize --filename=-
"#;

/// The fenced blocks with their languages.
pub(crate) fn blocks(page: &str) -> Vec<(&str, &str)> {
    let fenced = page.split("```").skip(1).step_by(2);
    fenced.map(|block| block.split_once('\n').expect("a block begins on a line of its own")).collect()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            std::fs::copy(from, to).unwrap();
        }
    }
}
