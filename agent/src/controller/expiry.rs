//! Saying in good time that this node will need a new token.
//!
//! Owns the moments of a certificate and the sentence about them. Must never keep anything from going on: a node whose
//! certificate is lost lives on what it holds.

use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tracing::warn;
use weft_core::types::NodeName;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
/// A renewal that is overdue is told of before the certificate ends, where it is lost within this time.
const SOON: Duration = Duration::from_secs(7 * 86_400);

/// The moments of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// It should have been renewed by then.
    pub due: SystemTime,
    /// Its end.
    pub end: SystemTime,
    /// It is not renewed any more, as far as the controller said when it gave it out.
    pub lost: SystemTime,
}

impl Deadlines {
    fn warning(&self, node: &NodeName, now: SystemTime) -> Option<String> {
        let ago = |moment| now.duration_since(moment).ok().map(spelt);
        let left = self.lost.duration_since(now).unwrap_or_default();
        let token = format!("the node needs a new token (`weft token create {node}`)");
        if let (Some(ended), Some(_)) = (ago(self.end), ago(self.lost)) {
            return Some(format!(
                "the certificate of node {node} ended {ended} ago: unless a controller still renews it, {token}"
            ));
        }
        if let Some(ended) = ago(self.end) {
            let left = spelt(left);
            return Some(format!(
                "the certificate of node {node} ended {ended} ago, and no controller has renewed it: bring one back within {left}; \
                 after that {token}"
            ));
        }
        (now >= self.due && left <= SOON).then(|| {
            let left = spelt(left);
            format!(
                "the certificate of node {node} is not renewed although it is time: bring a controller back within {left}; after \
                 that {token}"
            )
        })
    }

    /// Until there is something else to say.
    fn pause(&self, now: SystemTime) -> Duration {
        let ahead = [self.due, self.end, self.lost].into_iter().filter_map(|moment| moment.duration_since(now).ok());
        ahead.min().unwrap_or(MINUTE).clamp(Duration::from_secs(1), MINUTE)
    }
}

/// A length of time for people: its largest unit of which there are two.
fn spelt(time: Duration) -> String {
    let units = [(DAY, "d"), (HOUR, "h"), (MINUTE, "min")];
    let large = units.into_iter().find(|(unit, _)| time >= *unit * 2);
    large.map_or_else(
        || format!("{} s", time.as_secs()),
        |(unit, name)| format!("{} {name}", time.as_secs() / unit.as_secs()),
    )
}

/// Keeps `told` what there is to say of the certificate. Runs until nobody follows it any more.
pub(crate) async fn tell(
    node: NodeName,
    mut deadlines: watch::Receiver<Option<Deadlines>>,
    told: watch::Sender<Vec<String>>,
) {
    loop {
        let (known, now) = (*deadlines.borrow_and_update(), SystemTime::now());
        let warning = known.and_then(|known| known.warning(&node, now));
        if let Some(warning) = warning.as_ref().filter(|_| told.borrow().is_empty()) {
            warn!("{warning}");
        }
        told.send_replace(warning.into_iter().collect());
        tokio::select! {
            changed = deadlines.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(known.map_or(MINUTE, |known| known.pause(now))) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(days: f64) -> SystemTime {
        SystemTime::UNIX_EPOCH + DAY.mul_f64(1000.0 + days)
    }

    fn said(grace_days: f64, days: f64) -> Option<String> {
        let deadlines = Deadlines { due: at(-0.3), end: at(0.0), lost: at(grace_days) };
        deadlines.warning(&"a1".parse().expect("a name"), at(days))
    }

    #[test]
    fn a_node_that_will_need_a_token_says_so_weeks_before() {
        assert_eq!(said(30.0, -0.1), None, "a month is left");
        let early = said(30.0, 3.0).expect("it has ended");
        assert!(early.contains("ended 3 d ago") && early.contains("within 27 d"), "{early}");
        let late = said(30.0, 31.0).expect("it is lost");
        assert!(late.contains("ended 31 d ago") && late.contains("`weft token create a1`"), "{late}");
    }

    #[test]
    fn without_a_grace_it_is_said_before_the_end() {
        assert_eq!(said(0.0, -0.5), None, "it is not due yet");
        let overdue = said(0.0, -0.25).expect("it ends soon");
        assert!(overdue.contains("within 6 h") && overdue.contains("`weft token create a1`"), "{overdue}");
        let lost = said(0.0, 0.0).expect("it has ended");
        assert!(lost.contains("ended 0 s ago"), "{lost}");
    }

    #[test]
    fn it_is_looked_again_when_something_changes() {
        let deadlines = Deadlines { due: at(0.0), end: at(1.0), lost: at(2.0) };
        assert_eq!(deadlines.pause(at(0.0) - Duration::from_secs(7)), Duration::from_secs(7));
        assert_eq!(deadlines.pause(at(0.5)), MINUTE);
        assert_eq!(deadlines.pause(at(3.0)), MINUTE);
    }
}
