//! Rounds of random drift under traffic, on every node. A round is told by its seed and number.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use weft_e2e::lab_test;

use crate::drift::{
    hands::{Row, links, objects, settings, tables},
    scene::{Node, Scene},
};

/// Rounds where WEFT_DRIFT_ROUNDS does not say otherwise.
const ROUNDS: u64 = 25;
/// Where WEFT_DRIFT_SEED does not say otherwise.
const SEED: u64 = 0x5745_4654;
/// At most so many things happen in one round.
const AT_ONCE: u64 = 6;
/// In one of so many rounds the link below bounces as well.
const UNDERLAY: u64 = 6;

/// What takes away one of the two things that the device is known by.
pub(crate) const FACES: [&str; 2] = ["device lost its alias", "device has another name"];

/// Numbers without a pattern (Steele, Lea and Flood's SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }

    fn pick<T>(&mut self, mut from: Vec<T>) -> T {
        let count = u64::try_from(from.len()).expect("a count");
        from.swap_remove(usize::try_from(self.below(count)).expect("below a count"))
    }
}

fn number(variable: &str, default: u64) -> Result<u64> {
    match std::env::var(variable) {
        Ok(text) => text.parse().with_context(|| format!("{variable}={text} is not a number")),
        Err(_) => Ok(default),
    }
}

/// One thing that may happen to a node; each kind is as likely as any other.
fn chance(dice: &mut Dice, node: &Node) -> Result<Row> {
    let rows = match dice.below(6) {
        0 => links::rows(&node.eye.route)?,
        5 => links::pods(&node.eye.route, &node.pods)?,
        1 => tables::rows(&node.eye.tables)?,
        2 => settings::rows(&node.pods),
        3 => objects::additions(&node.eye.route)?,
        _ => objects::rows(&node.eye.route)?,
    };
    Ok(dice.pick(rows))
}

/// A round on a node: several things at once, or so short after each other that some find the agent at work. Tells
/// what was done.
async fn play(dice: &mut Dice, node: &Node) -> Result<Vec<String>> {
    let (mut done, mut silent) = (Vec::<String>::new(), false);
    if dice.below(UNDERLAY) == 0 {
        node.bounce().await?;
        done.push("underlay link bounced".to_owned());
    }
    for _ in 0..=dice.below(AT_ONCE) {
        tokio::time::sleep(Duration::from_millis(dice.below(25))).await;
        // What was just broken may be missing now.
        let Ok(row) = chance(dice, node) else { continue };
        // Without its name and its alias nothing tells the device from somebody else's: that is not Weft's to mend.
        if FACES.contains(&row.name.as_str()) && done.iter().any(|name| FACES.contains(&name.as_str())) {
            continue;
        }
        row.try_apply(&node.net, &node.eye);
        silent |= row.silent;
        done.push(row.name);
    }
    if silent {
        node.nudge().await?;
    }
    Ok(done)
}

lab_test!(rounds_of_random_drift_end_with_nothing_out_of_place, async || {
    let (rounds, seed) = (number("WEFT_DRIFT_ROUNDS", ROUNDS)?, number("WEFT_DRIFT_SEED", SEED)?);
    let mut scene = Scene::set().await?;
    let mut dice = Dice(seed);
    for round in 1..=rounds {
        let name = dice.pick(scene.nodes.keys().cloned().collect());
        let node = &scene.nodes[&name];
        let done = play(&mut dice, node).await?;
        let start = Instant::now();
        let what = format!("{name}: seed {seed:#x} round {round}: {}", done.join(", "));
        let took = scene.back(&what, &name, start).await?;
        scene.flows().await.with_context(|| what.clone())?;
        scene.note(took, what);
    }
    scene.end().await
});
