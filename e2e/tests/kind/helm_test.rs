//! The chart's own test: it passes where pods of all nodes reach each other, and names the nodes where they do not.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;
use weft_e2e::{
    kind::{
        Kind,
        helm::{NAMESPACE, RELEASE},
        shell,
    },
    kind_test,
};

/// A table of this test's own, before all others.
const CUT: &str = "add table inet e2e-cut; \
                   add chain inet e2e-cut cut { type filter hook prerouting priority -450; }; \
                   add rule inet e2e-cut cut udp dport 4789 drop";

/// What the test says; helm passes the logs of its hooks on to standard error.
async fn helm_test(kind: &Kind) -> Result<String> {
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$@\" 2>&1", "sh"]).arg(kind.description().bin.join("helm"));
    command.args(["test", RELEASE, "--namespace", NAMESPACE]).env("KUBECONFIG", &kind.description().kubeconfig);
    shell::run_within(command, Duration::from_secs(180)).await
}

kind_test!(the_charts_test_counts_what_crosses_subnets, async |kind: &Kind| {
    let printed = helm_test(kind).await?;
    let found = printed.lines().find(|line| line.contains("ways between pods work"));
    let found = found.with_context(|| format!("no findings in: {printed}"))?;
    // Two nodes in each subnet: each calls three others, two of them across, in each family.
    let families = kind.families().len();
    ensure!(found.contains(&format!("all {} ways", 12 * families)), "{found}");
    ensure!(found.contains(&format!("{} of them across subnets", 8 * families)), "{found}");
    Ok(())
});

kind_test!(the_charts_test_fails_where_a_firewall_eats_the_tunnel, async |kind: &Kind| {
    let [_, there] = kind.across();
    there.run(&["nft", CUT]).await?;
    let failed = helm_test(kind).await;
    there.run(&["nft", "delete table inet e2e-cut"]).await?;
    ensure!(failed.is_err(), "no tunnel leads to {}, and the test passes", there.name());
    let log = kind.kubectl(&["--namespace", NAMESPACE, "logs", "weft-test"]).await?;
    ensure!(log.contains(there.name()) && log.contains("do not work"), "{log}");
    helm_test(kind).await.context("the tunnel is open again")?;
    Ok(())
});
