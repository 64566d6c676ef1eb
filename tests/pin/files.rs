//! What becomes of the files: bytes, modes, links, and disks that are full.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use layerpin_test_support::program::layerpin;

use crate::program::{Workplace, machine_config, pinned};

const TAG: &str = "REGISTRY/acme/os:4.18";

fn after() -> String {
    pinned("os", "REGISTRY/acme/os@DIGEST", &format!("{TAG}@DIGEST"))
}

#[test]
fn windows_line_ends_a_byte_order_mark_and_a_missing_last_line_break_are_kept() {
    let workplace = Workplace::new();
    let windows = |text: &str| format!("\u{feff}{}", text.trim_end().replace('\n', "\r\n"));
    workplace.write("worker.yaml", &windows(&machine_config("os", TAG)));
    assert_eq!(workplace.pin(&["--write", "worker.yaml"]).status, 0);
    assert_eq!(workplace.read("worker.yaml"), windows(&after()));
}

#[test]
fn mode_and_link_are_kept_and_no_other_file_is_left() {
    let workplace = Workplace::new();
    let file = workplace.write("real/worker.yaml", &machine_config("os", TAG));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o604)).unwrap();
    symlink("real/worker.yaml", workplace.path("link.yaml")).unwrap();
    // The file is there twice, and changed once.
    let ended = workplace.pin(&["--write", "."]);
    assert_eq!((ended.status, ended.error.lines().count()), (0, 1), "{ended:?}");
    assert_eq!(workplace.read("real/worker.yaml"), after());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o604);
    assert!(fs::symlink_metadata(workplace.path("link.yaml")).unwrap().is_symlink());
    assert_eq!(workplace.names(), ["link.yaml", "real"]);
    assert_eq!(fs::read_dir(workplace.path("real")).unwrap().count(), 1);
}

#[test]
fn a_full_disk_leaves_the_file_unchanged() {
    let workplace = Workplace::new();
    workplace.write("worker.yaml", &machine_config("os", TAG));
    // A limit on the size of files stands for a full disk: the system refuses the write half way.
    let program = workplace.command(&["--write", "worker.yaml"]);
    let mut command = Command::new("sh");
    command
        .args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$@\"", "sh"])
        .arg(program.get_program())
        .args(program.get_args())
        .current_dir(workplace.path("."))
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default());
    let ended = workplace.ended(command.output().unwrap());
    assert_eq!(
        (ended.status, ended.error.as_str()),
        (2, "error: worker.yaml: cannot be written: File too large\n")
    );
    assert_eq!(workplace.read("worker.yaml"), machine_config("os", TAG));
    assert_eq!(workplace.names(), ["worker.yaml"]);
}

#[test]
fn a_read_only_file_or_folder_is_named_and_the_others_are_pinned() {
    let workplace = Workplace::new();
    let locked = workplace.write("locked/worker.yaml", &machine_config("os", TAG));
    let read_only = workplace.write("open/a.yaml", &machine_config("os", TAG));
    let other = workplace.write("open/b.yaml", &machine_config("os", TAG));
    for (path, mode) in [
        (workplace.path("."), 0o755),
        (workplace.path("locked"), 0o555),
        (workplace.path("open"), 0o777),
        (locked, 0o666),
        (read_only, 0o444),
        (other, 0o666),
    ] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let mut command = workplace.command(&["--write", "locked", "open"]);
    let is_root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    if is_root {
        // Nothing is forbidden to root. A user whom nobody knows is any user; it must reach the program.
        let copy = std::env::temp_dir().join(format!("layerpin-pin-{}", std::process::id()));
        // Written by another process: a child that another test starts while this one had it open would
        // keep it open until it runs its own program, and the system would not run the copy.
        let mut install = Command::new("install");
        install.args(["--mode=755", layerpin().to_str().unwrap()]).arg(&copy);
        assert!(install.status().unwrap().success());
        let mut copied = Command::new(&copy);
        copied.args(command.get_args()).current_dir(workplace.path(".")).env_clear().uid(65_534).gid(65_534);
        command = copied;
    }
    let output = command.stdin(Stdio::null()).output().unwrap();
    if is_root {
        fs::remove_file(command.get_program()).unwrap();
    }
    let ended = workplace.ended(output);
    let words = "error: locked/worker.yaml: cannot be written: Permission denied\n\
        error: open/a.yaml: cannot be written: Permission denied\n\
        open/b.yaml:7:15: pinned `REGISTRY/acme/os:4.18` to DIGEST\n";
    assert_eq!((ended.status, ended.error.as_str()), (2, words));
    assert_eq!(workplace.read("locked/worker.yaml"), machine_config("os", TAG));
    assert_eq!(fs::read_dir(workplace.path("locked")).unwrap().count(), 1);
    assert_eq!(workplace.read("open/b.yaml"), after());
}

#[test]
fn a_closed_pipe_is_not_an_error() {
    let workplace = Workplace::new();
    for number in 0..200 {
        workplace.write(&format!("tree/{number}.yaml"), &machine_config("os", TAG));
    }
    let mut child =
        workplace.command(&["tree"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
