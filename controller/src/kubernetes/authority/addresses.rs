//! Where agents reach the controllers without their Service.
//!
//! Owns one key of ConfigMap `weft-ca`, which agents mount: this leader's address, and those of some that led before. Must
//! never touch the certificate beside it.

use std::net::SocketAddr;

use kube::api::PostParams;
use weft_api::names;

use super::{AuthorityError, CONFIG_MAP, Objects};
use crate::kubernetes::is_conflict;

/// Leaders that are remembered: one of them is likely to lead, or to name who does.
const MOST: usize = 4;

impl Objects {
    /// Puts this leader's address first.
    pub(super) async fn publish_address(&self, own: SocketAddr) -> Result<(), AuthorityError> {
        loop {
            let failed = |error| self.failed("fill", CONFIG_MAP, error);
            let mut map = self.config_maps.get(names::CA).await.map_err(failed)?;
            let data = map.data.get_or_insert_default();
            let known = data.get(names::CONTROLLERS).map(String::as_str).unwrap_or_default();
            let wanted = with_first(own, known);
            if known == wanted {
                return Ok(());
            }
            data.insert(names::CONTROLLERS.to_owned(), wanted);
            match self.config_maps.replace(names::CA, &PostParams::default(), &map).await {
                Err(error) if is_conflict(&error) => {}
                written => return written.map(drop).map_err(failed),
            }
        }
    }
}

/// One address a line, `own` before the others.
fn with_first(own: SocketAddr, known: &str) -> String {
    let others = known.lines().filter_map(|line| line.trim().parse().ok()).filter(|other| *other != own);
    std::iter::once(own).chain(others).take(MOST).map(|address| format!("{address}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_leads_comes_first_and_a_few_that_led_before_after_it() {
        let address = |last: u8| SocketAddr::from(([192, 0, 2, last], 7887));
        let mut known = "192.0.2.7:7887\nnonsense\n".to_owned();
        for last in [1, 2, 1, 3, 4] {
            known = with_first(address(last), &known);
        }
        assert_eq!(known, "192.0.2.4:7887\n192.0.2.3:7887\n192.0.2.1:7887\n192.0.2.2:7887\n");
    }
}
