//! The bench of the fleet, small: that everything it measures works, whatever it takes.

use anyhow::ensure;
use weft_e2e::{
    bench::fleet::{self, Plan},
    lab_test,
};

lab_test!(a_small_fleet_goes_through_everything_that_is_measured, async || {
    let plan = Plan { agents: vec![60], rounds: 3 };
    let findings = fleet::run(&plan, &|line| println!("{line}")).await?;
    let run = &findings.runs[0];
    // Sizes do not depend on the machine: a frame and an acknowledgement, each in a TLS record.
    let bytes = run.bytes_per_agent_per_change;
    ensure!(bytes > 100.0 && bytes <= 225.0, "a join costs {bytes} bytes an agent");
    ensure!(run.bytes_per_agent_per_leave < bytes, "a departure costs more than a join: {run:?}");
    ensure!(run.resumed_share > 0.99, "only {} of the TLS sessions were resumed", run.resumed_share);
    ensure!(run.join_p99_ms >= run.join_p50_ms && run.controller_rss_mib >= run.controller_rss_end_mib, "{run:?}");
    Ok(())
});
