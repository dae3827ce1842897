//! Tests that run against a real cluster.
//!
//! Owns a test's way to the cluster, the time it takes, what its failure shows, and that nothing of it stays. A test that
//! has no cluster fails and says how to get one; it never skips.

use std::{
    panic::{AssertUnwindSafe, resume_unwind},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};
use futures::FutureExt;
use serde_json::json;
use tokio::time::timeout;

use super::{Description, Kind, scene};

/// The chart of this repository was brought into the cluster by this process.
static CURRENT: AtomicBool = AtomicBool::new(false);
/// No test may take longer.
const LONGEST: Duration = Duration::from_secs(900);

/// Defines a test whose body, an `async` closure that is given the cluster and returns `anyhow::Result<()>`, runs against
/// the cluster that is up, with Weft installed and settled.
#[macro_export]
macro_rules! kind_test {
    ($(#[$attribute:meta])* $name:ident, $body:expr) => {
        $(#[$attribute])*
        #[test]
        #[ignore = "needs a cluster: ./dev e2e"]
        fn $name() {
            $crate::kind::harness::test(concat!(module_path!(), "::", stringify!($name)), $body);
        }
    };
}

/// Runs `body` against the cluster.
///
/// # Panics
/// Where the test fails or cannot be run.
pub fn test(path: &str, body: impl AsyncFnOnce(&Kind) -> Result<()>) {
    let name = path.split_once("::").map_or(path, |(_, name)| name);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime of two threads");
    let start = Instant::now();
    let ran = runtime.block_on(async {
        let kind = prepare().await?;
        let ran = AssertUnwindSafe(timeout(LONGEST, body(&kind))).catch_unwind().await;
        let failed = !matches!(ran, Ok(Ok(Ok(()))));
        if failed {
            show(&kind).await;
            mend(&kind).await;
        }
        let cleared = scene::clear(&kind.client()).await;
        match ran {
            Ok(Ok(Ok(()))) => cleared,
            Ok(Ok(Err(error))) => Err(error),
            Ok(Err(_)) => Err(anyhow!("the test did not end within {LONGEST:?}")),
            Err(panic) => resume_unwind(panic),
        }
    });
    println!("{name}: {:.1} s", start.elapsed().as_secs_f64());
    if let Err(error) = ran {
        panic!("{name}: {error:#}");
    }
}

/// The cluster with Weft in it, and nothing of earlier tests.
async fn prepare() -> Result<Kind> {
    let kind = Kind::open(Description::read()?).await?;
    scene::clear(&kind.client()).await?;
    if CURRENT.load(Ordering::Relaxed) && kind.is_installed().await? {
        kind.settled().await?;
    } else {
        kind.install(&json!({})).await?;
        CURRENT.store(true, Ordering::Relaxed);
    }
    Ok(kind)
}

/// Puts back what a test took away and did not return, so that it does not fail the next one too.
async fn mend(kind: &Kind) {
    if let Err(error) = kind.install(&json!({})).await {
        eprintln!("the next test will not find the cluster well: {error:#}");
    }
}

/// Prints how the cluster stands, for a failure's report.
async fn show(kind: &Kind) {
    let looks: [&[&str]; 6] = [
        &["get", "nodes", "--output", "wide"],
        &["get", "vteps", "--output", "wide"],
        &["get", "pods", "--all-namespaces", "--output", "wide"],
        &["get", "events", "--all-namespaces", "--sort-by", ".lastTimestamp"],
        &["-n", "weft-system", "logs", "-l", "app.kubernetes.io/component=controller", "--tail=60", "--prefix"],
        &["-n", "weft-system", "logs", "-l", "app.kubernetes.io/component=agent", "--tail=40", "--prefix"],
    ];
    for words in looks {
        let told = kind.kubectl(words).await.unwrap_or_else(|error| format!("{error:#}"));
        let lines: Vec<_> = told.lines().collect();
        eprintln!("---- kubectl {}", words.join(" "));
        lines[lines.len().saturating_sub(120)..].iter().for_each(|line| eprintln!("{line}"));
    }
}
