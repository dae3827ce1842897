//! An identity that an agent of version 0.1 stored. Its authority was made for a test and is gone.

use super::*;

const FILES: [(&str, &[u8]); 4] = [
    ("node.key", include_bytes!("../golden/node.key")),
    ("node.crt", include_bytes!("../golden/node.crt")),
    ("ca.crt", include_bytes!("../golden/ca.crt")),
    ("token-id", include_bytes!("../golden/token-id")),
];

#[test]
fn an_identity_of_version_0_1_is_used_and_written_as_that_version_reads_it() {
    let state = std::env::temp_dir().join(format!("weft-identity-{}", std::process::id()));
    fs::create_dir_all(&state).expect("a writable temp dir");
    let vault = Vault::in_dir(&state).expect("made");
    let put = |(name, bytes): (&str, &[u8])| fs::write(vault.dir.join(name), bytes).expect("writable");
    FILES.into_iter().for_each(put);
    let identity = vault.load().expect("readable").expect("there is one");
    assert_eq!(vault.token_id().as_deref(), Some("4c0652b781fcbd0c"));
    assert!(vault.holds(&identity));
    let told_nothing = identity.deadlines();
    assert_eq!(told_nothing.lost, told_nothing.end, "nobody said that it is renewed after its end");
    let grace = Duration::from_secs(3600);
    let granted = Granted { certificate: &identity.certificate, ca: Some(&identity.ca), grace };
    vault.store(&granted).expect("writable");
    let kept = vault.load().expect("readable").expect("there is one").deadlines();
    assert_eq!(kept.lost, kept.end + grace);
    vault.store_token_id("4c0652b781fcbd0c").expect("writable");
    for (name, bytes) in FILES {
        assert!(
            fs::read(vault.dir.join(name)).expect("there") == bytes,
            "{name} changed: a rollback would not read it"
        );
    }
    fs::remove_dir_all(&state).expect("just made");
}
