//! The way of one packet through the chains of one table.
//!
//! Owns jumps and returns (`nft_do_chain` in net/netfilter/nf_tables_core.c). Must never go on for ever, whatever the chains
//! are.

use super::{
    packet::At,
    rule::{Outcome, Verdict, run},
    sets::Sets,
};
use crate::kernel::nft::{
    socket::{Fault, Netfilter},
    table::GET_RULE,
    wire::Attributes,
};

/// `NFT_JUMP_STACK_SIZE`.
const DEEPEST: usize = 16;
/// Whoever lets packets meet more rules is not judged.
const MOST_RULES: usize = 10_000;

/// How a chain ends.
enum End {
    Accepted,
    /// By a rule of this chain.
    Dropped(String),
    Returned,
}

/// One packet at one hook.
pub(super) struct Walk<'a> {
    sets: Sets<'a>,
    family: u8,
    table: String,
    packet: At<'a>,
    /// A rule that cannot be judged may have accepted it.
    maybe_accepted: bool,
    rules: usize,
}

impl<'a> Walk<'a> {
    pub(super) fn new(socket: &'a mut Netfilter, family: u8, table: &str, packet: At<'a>) -> Self {
        let sets = Sets::new(socket, family, table);
        Self { sets, family, table: table.to_owned(), packet, maybe_accepted: false, rules: 0 }
    }

    /// Begins at a base chain. None where it lets the packet pass, or may; else the chain whose rule drops it, or none again
    /// for the policy.
    pub(super) fn begin(&mut self, base: &str, drops_by_policy: bool) -> Result<Option<Option<String>>, Fault> {
        let end = self.chain(base, 0)?;
        if self.maybe_accepted || self.rules > MOST_RULES {
            return Ok(None);
        }
        Ok(match end {
            End::Dropped(chain) => Some(Some(chain)),
            End::Returned if drops_by_policy => Some(None),
            End::Accepted | End::Returned => None,
        })
    }

    fn chain(&mut self, chain: &str, depth: usize) -> Result<End, Fault> {
        if depth > DEEPEST || self.rules > MOST_RULES {
            return Ok(End::Accepted);
        }
        let request = Attributes::new().text(1, &self.table).text(2, chain);
        for reply in self.sets.socket.dump(GET_RULE, self.family, request)? {
            let rule = reply.attributes()?;
            if rule.text(1).as_ref() != Some(&self.table) || rule.text(2).as_deref() != Some(chain) {
                continue;
            }
            self.rules += 1;
            match run(&rule.nest(4)?, &self.packet, &mut self.sets)? {
                Outcome::Passes | Outcome::MayDo(Verdict::Drop) => {}
                Outcome::MayDo(_) => self.maybe_accepted = true,
                Outcome::Does(Verdict::Accept) => return Ok(End::Accepted),
                Outcome::Does(Verdict::Drop) => return Ok(End::Dropped(chain.to_owned())),
                Outcome::Does(Verdict::Return) => return Ok(End::Returned),
                Outcome::Does(Verdict::Goto(target)) => return self.chain(&target, depth + 1),
                Outcome::Does(Verdict::Jump(target)) => match self.chain(&target, depth + 1)? {
                    End::Returned => {}
                    end => return Ok(end),
                },
            }
        }
        Ok(End::Returned)
    }
}
