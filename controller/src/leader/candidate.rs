//! Standing for election, again and again.
//!
//! Owns the ways between standby and leader: when a term begins, that all of it has ended before the next one, and what the gate says
//! meanwhile. Must never let anything of a term go on after the leadership was lost.

use std::{pin::Pin, time::Duration};

use tokio::sync::watch;

use super::{Election, Fence, Role};

/// The longest pause after a term that failed.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What a replica does while it leads, from the election to the end of all that belongs to it.
pub(crate) trait Term {
    /// Leads until it cannot, and says why. Dropping the future stops nothing: that is for [`Self::stop`].
    fn run(&mut self) -> impl Future<Output = Failure>;

    /// Ends everything.
    fn stop(self) -> impl Future<Output = ()>;
}

/// Why a term could not go on.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: anyhow::Error,
    /// This replica is of no use any more, whoever leads.
    pub(crate) is_final: bool,
}

/// How a term ended.
enum End {
    /// Another replica may lead by now.
    Lost,
    /// This replica could not lead.
    Failed(Failure),
    /// The process is to end.
    Shutdown,
}

/// A replica that leads whenever it is elected.
pub(crate) struct Candidate {
    election: Election,
    role: watch::Sender<Role>,
    /// After a term that failed at first; then it grows.
    pause: Duration,
}

impl Candidate {
    pub(crate) const fn new(election: Election, role: watch::Sender<Role>, pause: Duration) -> Self {
        Self { election, role, pause }
    }

    /// Leads whenever it is elected, until `shutdown`; the Lease is nobody's of this process afterwards.
    pub(crate) async fn compete<T: Term>(
        mut self,
        begin: impl Fn(Fence) -> T,
        mut shutdown: Pin<&mut impl Future<Output = ()>>,
    ) -> anyhow::Result<()> {
        let mut competed = Ok(());
        let mut pause = self.pause;
        loop {
            let stand_by = |standing| drop(self.role.send_replace(Role::Standby(standing)));
            tokio::select! {
                () = self.election.elected(stand_by) => {}
                () = &mut shutdown => break,
            }
            match self.lead(&begin, shutdown.as_mut()).await {
                End::Shutdown => break,
                End::Lost => pause = self.pause,
                End::Failed(Failure { error, is_final }) => {
                    self.give_way(&error).await;
                    if is_final {
                        competed = Err(error);
                        break;
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = &mut shutdown => break,
                    }
                }
            }
        }
        self.say("it is stopping");
        self.election.release().await;
        competed
    }

    /// Another one may do better.
    async fn give_way(&mut self, error: &anyhow::Error) {
        tracing::error!("this replica cannot lead: {error:#}");
        self.say(&format!("it was elected and could not lead: {error:#}"));
        self.election.release().await;
    }

    async fn lead<T: Term>(&mut self, begin: impl Fn(Fence) -> T, shutdown: Pin<&mut impl Future<Output = ()>>) -> End {
        self.say("it was just elected and reads what is stored");
        let mut term = begin(self.election.fence());
        let mut keep = std::pin::pin!(self.election.keep());
        let end = tokio::select! {
            () = &mut keep => End::Lost,
            failure = term.run() => End::Failed(failure),
            () = shutdown => End::Shutdown,
        };
        // The gate first, so that nobody who is told to reconnect comes back here.
        self.role.send_replace(Role::Starting("it led until now and is stopping that".to_owned()));
        // The Lease is kept meanwhile, where it is still ours: whoever takes over finds nothing of this term.
        let mut kept = !matches!(end, End::Lost);
        let mut stop = std::pin::pin!(term.stop());
        loop {
            tokio::select! {
                () = &mut stop => return end,
                () = &mut keep, if kept => kept = false,
            }
        }
    }

    fn say(&self, why: &str) {
        self.role.send_replace(Role::Starting(why.to_owned()));
    }
}

#[cfg(test)]
mod tests;
