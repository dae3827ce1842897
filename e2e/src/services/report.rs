//! The cases as they pass, and their table at the end.
//!
//! Owns the form. A case that fails does not end the others: one run shows all that is wrong.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

/// One case.
#[derive(Debug)]
struct Case {
    part: String,
    what: String,
    saw: Result<String>,
    took: Duration,
}

/// All cases so far.
#[derive(Debug, Default)]
pub(super) struct Report {
    part: String,
    cases: Vec<Case>,
}

impl Report {
    /// Begins a part.
    pub(super) fn part(&mut self, name: &str) {
        println!("\n{name}");
        name.clone_into(&mut self.part);
    }

    /// Says how the run goes on.
    pub(super) fn line(&self, text: &str) {
        println!("  {text}");
    }

    /// Runs a case; `body` says what it saw.
    pub(super) async fn case(&mut self, what: &str, body: impl AsyncFnOnce() -> Result<String>) {
        let begun = Instant::now();
        let saw = body().await;
        let took = begun.elapsed();
        match &saw {
            Ok(saw) => println!("  {:>6.1} s  {what}: {saw}", took.as_secs_f32()),
            Err(error) => println!("  FAILED    {what}: {error:#}"),
        }
        self.cases.push(Case { part: self.part.clone(), what: what.to_owned(), saw, took });
    }

    /// Prints the table.
    ///
    /// # Errors
    /// Where a case failed, or there was none.
    pub(super) fn end(&self) -> Result<()> {
        println!("\n| part | case | seen | s |\n| --- | --- | --- | --- |");
        for case in &self.cases {
            let saw = match &case.saw {
                Ok(saw) => saw.clone(),
                Err(error) => format!("FAILED: {error:#}"),
            };
            println!("| {} | {} | {saw} | {:.1} |", case.part, case.what, case.took.as_secs_f32());
        }
        let failed = self.cases.iter().filter(|case| case.saw.is_err()).count();
        ensure!(failed == 0, "{failed} of {} cases failed", self.cases.len());
        ensure!(!self.cases.is_empty(), "no case ran");
        Ok(())
    }
}
