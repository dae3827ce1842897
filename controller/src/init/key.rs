//! Who else could read the authority's key.
//!
//! Owns what is refused and what is only said. Must never change a mode by itself: whoever gave others the key has to know
//! that they had it.

use std::{fs, io, os::unix::fs::PermissionsExt as _, path::Path};

use anyhow::Context as _;

/// Refuses a key that everybody can read, or others than its owner can replace; a group that can read it is named.
pub(super) fn check(path: &Path) -> anyhow::Result<()> {
    let mode = match fs::metadata(path) {
        Ok(found) => found.permissions().mode() & 0o777,
        // Whoever reads it next says so better.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot look at {}", path.display())),
    };
    let shown = path.display();
    let remedy = format!("whoever has it can be any node: make it its owner's alone with `chmod 600 {shown}`");
    anyhow::ensure!(
        mode & 0o027 == 0,
        "the authority's key {shown} has mode {mode:04o}, so that others can read or replace it; {remedy}, and begin a new authority if somebody may have taken it"
    );
    if mode & 0o040 != 0 {
        tracing::warn!("the authority's key {shown} has mode {mode:04o}, so that its group can read it; {remedy}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_its_owners() {
        let path = std::env::temp_dir().join(format!("weft-key-{}", std::process::id()));
        check(&path).expect("a missing key is another error's");
        fs::write(&path, "").expect("a writable temp dir");
        for (mode, is_fine) in
            [(0o600, true), (0o400, true), (0o640, true), (0o644, false), (0o660, false), (0o602, false)]
        {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("our file");
            let checked = check(&path);
            assert_eq!(checked.is_ok(), is_fine, "{mode:o}");
            if let Err(error) = checked {
                let text = error.to_string();
                assert!(text.contains(&format!("{mode:04o}")) && text.contains("chmod 600"), "{text}");
            }
        }
        fs::remove_file(&path).expect("just written");
    }
}
