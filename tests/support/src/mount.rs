//! Folders as the kubelet mounts Secrets and ConfigMaps.

use std::path::Path;

/// Replaces the folder behind `..data` by one with these files, as the kubelet does for a mounted Secret.
pub fn swap_data(mount: &Path, version: &str, files: &[(&str, &str)]) {
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
