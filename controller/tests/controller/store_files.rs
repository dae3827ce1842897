//! The store's file: damaged, foreign, in use.

use std::{fs, path::Path};

use weft_controller::store::{RedbStore, Store, StoreError, Write};

use crate::{
    agent::Agent,
    harness::{Cluster, Dir, copy},
};

/// The file of a controller that had a few nodes.
async fn used_store(dir: &Dir) -> std::path::PathBuf {
    let mut cluster = Cluster::start(&["10.244.0.0/16=24"]).await;
    for n in 1..=5 {
        Agent::join(&cluster, &format!("n{n}"), &[&format!("192.0.2.{n}/24")]).await;
    }
    cluster.stop().await;
    let path = dir.0.join("used.redb");
    copy(&cluster.store_path(), &path);
    path
}

/// Opens a file that must be refused: with what error, and without a changed byte.
fn refuse(path: &Path, bytes: &[u8], what: &str) -> StoreError {
    fs::write(path, bytes).expect("a file");
    let error = RedbStore::open(path).err().unwrap_or_else(|| panic!("{what} was taken for a store"));
    assert!(fs::read(path).expect("the file") == bytes, "{what}: the file was changed");
    let text = error.to_string();
    assert!(text.contains(&path.display().to_string()), "{what}: {text} names no file");
    error
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_file_is_refused_and_left_alone() {
    let dir = Dir::new();
    let good = fs::read(used_store(&dir).await).expect("a file");
    let path = dir.0.join("cut.redb");
    for length in [0, 1, 9, 100, 512, 4096, 5000, good.len() / 4, good.len() / 2, good.len() - 4096, good.len() - 1] {
        let error = refuse(&path, &good[..length], &format!("a file cut at {length} of {}", good.len()));
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("backup"), "{error} names no remedy");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_record_is_never_believed() {
    let dir = Dir::new();
    let used = used_store(&dir).await;
    let expected = RedbStore::open(&used).expect("a sound file").load().await.expect("readable");
    let good = fs::read(&used).expect("a file");
    let path = dir.0.join("flipped.redb");
    let mut refused = 0;
    for at in (0..good.len()).step_by(good.len() / 400) {
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        fs::write(&path, &bytes).expect("a file");
        match RedbStore::open(&path) {
            // In space that nothing uses a flip does no harm; what is read must be what was written.
            Ok(store) => assert_eq!(store.load().await.expect("readable"), expected, "a flip at {at} was believed"),
            Err(error) => {
                refused += 1;
                assert!(matches!(error, StoreError::Damaged { .. }), "a flip at {at}: {error}");
                assert!(fs::read(&path).expect("the file") == bytes, "a flip at {at}: the file was changed");
            }
        }
    }
    // Every occurrence of a node's name lies in a record.
    let at = good.windows(2).position(|window| window == b"n3").expect("a record of n3");
    let mut bytes = good.clone();
    bytes[at + 1] = b'4';
    refuse(&path, &bytes, "a changed name");
    assert!(refused > 0, "none of the flips was noticed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_a_crash_left_behind_is_whole() {
    let dir = Dir::new();
    let mut cluster = Cluster::start(&["10.244.0.0/16=24"]).await;
    for n in 1..=5 {
        Agent::join(&cluster, &format!("n{n}"), &[&format!("192.0.2.{n}/24")]).await;
    }
    // The file of a controller that runs is what kill -9 or a power cut would leave.
    let path = dir.0.join("crashed.redb");
    copy(&cluster.store_path(), &path);
    cluster.stop().await;
    let left = RedbStore::open(&path).expect("a crash damages nothing").load().await.expect("readable");
    let stopped = RedbStore::open(&cluster.store_path()).expect("a sound file").load().await.expect("readable");
    assert_eq!(left, stopped, "something confirmed got lost");
    assert_eq!(left.nodes.len(), 5);
}

#[tokio::test]
async fn what_is_no_store_is_refused() {
    let dir = Dir::new();
    let error = refuse(&dir.0.join("text"), "hello\n".repeat(2000).as_bytes(), "a text file");
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
}

#[tokio::test]
async fn one_controller_at_a_time() {
    let dir = Dir::new();
    let path = dir.0.join("weft.redb");
    let first = RedbStore::open(&path).expect("a new store");
    let error = RedbStore::open(&path).expect_err("it is in use");
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    first.commit(vec![Write::Epoch(5)]).await.expect("the first is not disturbed");
    drop(first);
    assert_eq!(RedbStore::open(&path).expect("free again").load().await.expect("readable").epoch, 5);
}
