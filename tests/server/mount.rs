//! Folders as the kubelet mounts Secrets and ConfigMaps.

use std::path::Path;

/// Swaps the folder behind `..data` for one with these files, as the kubelet does with a mounted Secret.
pub(crate) fn swap_data(mount: &Path, version: &str, files: &[(&str, &str)]) {
    let folder = mount.join(version);
    std::fs::create_dir_all(&folder).unwrap();
    for (name, content) in files {
        std::fs::write(folder.join(name), content).unwrap();
        let link = mount.join(name);
        if !link.is_symlink() {
            std::os::unix::fs::symlink(Path::new("..data").join(name), link).unwrap();
        }
    }
    std::os::unix::fs::symlink(version, mount.join("..data_tmp")).unwrap();
    std::fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
}
