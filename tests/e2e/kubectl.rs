//! kubectl: how the tests speak to the API server, and as whom.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use layerpin_sample_registry::{keep_printed, keep_secret};
use layerpin_test_support::documents::kubeconfig;
use serde_json::{Value, json};

/// kubectl for one API server.
pub(crate) struct Kubectl {
    program: PathBuf,
    /// Holds a kubeconfig for each caller, and is kubectl's home.
    folder: PathBuf,
}

/// Who asks the API server.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Caller {
    /// Whom nothing is forbidden.
    Admin,
    /// Somebody who may write MachineConfigs.
    User,
    /// The machine config operator's controller, which renders MachineConfigs.
    MachineConfigController,
}

/// What kubectl answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) succeeded: bool,
    /// One that was killed says nothing else.
    ended: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Kubectl {
    /// Takes kubectl from `tools`, for an API server that does not run yet.
    pub(crate) fn new(tools: &Path, folder: &Path) -> Self {
        Caller::ALL.iter().for_each(|caller| keep_secret(&caller.token()));
        Self { program: tools.join("kubectl"), folder: folder.to_owned() }
    }

    /// From now on asks the API server on `port`, which shows a certificate from `authority`.
    pub(crate) fn point_at(&self, port: u16, authority: &Path) {
        let cluster =
            json!({"server": format!("https://127.0.0.1:{port}"), "certificate-authority": authority});
        for caller in Caller::ALL {
            let kubeconfig = kubeconfig(&cluster, &json!({"token": caller.token()}));
            fs::write(self.kubeconfig(caller), kubeconfig.to_string()).unwrap();
        }
    }

    /// Writes a kubeconfig of that API server for somebody with `token`, and returns its path.
    pub(crate) fn kubeconfig_for(&self, name: &str, token: &str) -> PathBuf {
        let text = fs::read_to_string(self.kubeconfig(Caller::Admin)).unwrap();
        let mut kubeconfig: Value = serde_json::from_str(&text).unwrap();
        kubeconfig["users"][0]["user"] = json!({ "token": token });
        let path = self.folder.join(format!("{name}.kubeconfig"));
        fs::write(&path, kubeconfig.to_string()).unwrap();
        path
    }

    /// Runs kubectl as `caller`.
    pub(crate) fn run(&self, caller: Caller, arguments: &[&str]) -> Answer {
        answer(self.command(arguments).env("KUBECONFIG", self.kubeconfig(caller)), "")
    }

    /// A token for an account, good for an hour.
    pub(crate) fn token_of(&self, account: &str, namespace: &str) -> String {
        let namespace = format!("--namespace={namespace}");
        let mut command = self.command(&["create", "token", account, &namespace]);
        let told = told(command.env("KUBECONFIG", self.kubeconfig(Caller::Admin)), "");
        let token = told.accepted("a token").stdout.trim_end().to_owned();
        keep_secret(&token);
        token
    }

    /// Runs kubectl as `caller` on `object`.
    pub(crate) fn run_on(&self, caller: Caller, arguments: &[&str], object: &Value) -> Answer {
        let arguments = [arguments, &["--filename=-"]].concat();
        answer(self.command(&arguments).env("KUBECONFIG", self.kubeconfig(caller)), &object.to_string())
    }

    /// Gets `path` of any server with TLS; kubectl is a client for that which is there anyway.
    pub(crate) fn fetch(&self, url: &str, authority: &Path, path: &str) -> Answer {
        let (server, raw) = (format!("--server={url}"), format!("--raw={path}"));
        let authority = format!("--certificate-authority={}", authority.display());
        // Without a token it would ask for a name and a password.
        let arguments = ["get", &raw, &server, &authority, "--token=none"];
        answer(self.command(&arguments).env_remove("KUBECONFIG"), "")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).env("HOME", &self.folder);
        command
    }

    fn kubeconfig(&self, caller: Caller) -> PathBuf {
        self.folder.join(format!("{caller:?}.kubeconfig"))
    }
}

impl Caller {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Admin, Self::User, Self::MachineConfigController];

    /// The name that the API server knows the caller by.
    pub(crate) fn user(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::User => "user",
            Self::MachineConfigController => {
                "system:serviceaccount:openshift-machine-config-operator:machine-config-controller"
            }
        }
    }

    /// The caller's line in the API server's token file.
    pub(crate) fn token_line(self) -> String {
        let (token, user) = (self.token(), self.user());
        match self {
            Self::Admin => format!("{token},{user},{self:?},system:masters\n"),
            Self::User | Self::MachineConfigController => format!("{token},{user},{self:?}\n"),
        }
    }

    /// Good for as long as the cluster lives, and on loopback only.
    pub(crate) fn token(self) -> String {
        format!("token-of-{self:?}")
    }
}

impl Answer {
    /// Claims that the command succeeded.
    pub(crate) fn accepted(self, claim: &str) -> Self {
        assert!(self.succeeded, "{claim}: kubectl ended with {}: {}", self.ended, self.stderr);
        self
    }

    /// Claims that the command was refused, and returns the reason.
    pub(crate) fn refused(self, claim: &str) -> String {
        assert!(!self.succeeded, "{claim}: {}", self.stdout);
        self.stderr
    }

    /// The warnings that the API server passed on.
    pub(crate) fn warnings(&self) -> Vec<&str> {
        self.stderr.lines().filter_map(|line| line.strip_prefix("Warning: ")).collect()
    }
}

/// What kubectl answers, which is searched for credentials.
fn answer(command: &mut Command, input: &str) -> Answer {
    let answer = told(command, input);
    keep_printed("answers", format!("{}{}", answer.stdout, answer.stderr).as_bytes());
    answer
}

fn told(command: &mut Command, input: &str) -> Answer {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that refuses its arguments does not read what it is given.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    Answer {
        succeeded: output.status.success(),
        ended: output.status,
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}
