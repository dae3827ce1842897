//! Weft's release in the cluster, as the README installs it.
//!
//! Owns the calls of helm and the values that this cluster needs. Must never install what the chart does not.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::process::Command;

use super::{
    Kind,
    description::{directory, root},
    shell,
};

/// The release.
pub const RELEASE: &str = "weft";
/// Its namespace.
pub const NAMESPACE: &str = "weft-system";
/// How long helm waits for what it started.
const LIMIT: &str = "4m";
const PATIENCE: Duration = Duration::from_secs(270);

/// Where the chart is.
pub fn chart() -> PathBuf {
    root().join("deploy/chart")
}

impl Kind {
    /// Runs helm and returns what it prints.
    ///
    /// # Errors
    /// Where it fails, with what it says.
    pub async fn helm(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new(self.description().bin.join("helm"));
        command.args(words).env("KUBECONFIG", &self.description().kubeconfig);
        shell::run_within(command, PATIENCE).await
    }

    /// Runs kubectl and returns what it prints.
    ///
    /// # Errors
    /// Where it fails, with what it says.
    pub async fn kubectl(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new(self.description().bin.join("kubectl"));
        command.args(words).env("KUBECONFIG", &self.description().kubeconfig);
        shell::run(command).await
    }

    /// True where Weft is installed.
    ///
    /// # Errors
    /// Where helm cannot say.
    pub async fn is_installed(&self) -> Result<bool> {
        let listed = self.helm(&["list", "--namespace", NAMESPACE, "--output", "json"]).await?;
        let releases: Vec<Value> = serde_json::from_str(&listed)?;
        Ok(releases.iter().any(|release| release["name"] == RELEASE && release["status"] == "deployed"))
    }

    /// Installs Weft, or brings it to what is in the repository, with values that go before the cluster's own.
    ///
    /// # Errors
    /// Where it does not come up.
    pub async fn install(&self, more: &Value) -> Result<()> {
        let flags = ["--wait", "--timeout", LIMIT];
        self.upgrade(&chart(), &self.values(more), &flags).await.context("Weft does not come up")?;
        self.settled().await
    }

    /// Brings the release to a chart with exactly these values, in helm's own way otherwise.
    ///
    /// # Errors
    /// Where helm fails, with what it says.
    pub async fn upgrade(&self, chart: &Path, values: &Value, flags: &[&str]) -> Result<String> {
        let path = directory().join(format!("{}.values.json", self.description().name));
        std::fs::write(&path, values.to_string()).with_context(|| format!("cannot write {}", path.display()))?;
        let (chart, values) = (chart.to_string_lossy(), path.to_string_lossy());
        let words = ["upgrade", "--install", RELEASE, &chart, "--namespace", NAMESPACE, "--create-namespace"];
        self.helm(&[&words[..], &["--values", &values], flags].concat()).await
    }

    /// The newest revision, and what Helm calls its state.
    ///
    /// # Errors
    /// Where there is none.
    pub async fn revision(&self) -> Result<(u64, String)> {
        let listed = self.helm(&["history", RELEASE, "--namespace", NAMESPACE, "--output", "json"]).await?;
        let listed: Vec<Value> = serde_json::from_str(&listed)?;
        let newest = listed.last().context("the release has no revision")?;
        let number = newest["revision"].as_u64().context("a revision is a number")?;
        Ok((number, newest["status"].as_str().unwrap_or_default().to_owned()))
    }

    /// Goes back to the revision before the last upgrade.
    ///
    /// # Errors
    /// Where it does not come up.
    pub async fn rollback(&self) -> Result<()> {
        self.helm(&["rollback", RELEASE, "--namespace", NAMESPACE, "--wait", "--timeout", LIMIT]).await?;
        self.settled().await
    }

    /// Uninstalls Weft, which takes away all that it has made anywhere.
    ///
    /// # Errors
    /// Where something does not go.
    pub async fn uninstall(&self) -> Result<()> {
        self.helm(&["uninstall", RELEASE, "--namespace", NAMESPACE, "--wait", "--timeout", LIMIT]).await?;
        Ok(())
    }

    /// The values for this cluster, after which those given count.
    pub fn values(&self, more: &Value) -> Value {
        let mut pools = vec![json!({ "cidr": "10.244.0.0/16", "nodePrefix": 24 })];
        if self.families().len() == 2 {
            pools.push(json!({ "cidr": "fd00:10:244::/56", "nodePrefix": 64 }));
        }
        let mut values = json!({ "image": { "repository": "weft", "tag": "dev" }, "pools": pools });
        super::manifest::merge(&mut values, more);
        values
    }
}
