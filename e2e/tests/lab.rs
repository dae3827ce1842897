//! The lab itself: what tests built on it may rely on.

use weft_e2e::{
    lab::{Lab, LabSpec},
    lab_test,
};

lab_test!(starts, async || {
    let lab = Lab::start(LabSpec::default()).await?;
    println!("{:?}", lab.node_names());
    println!("{}", lab.host("a1").run(&["ip", "addr"]).await?);
    println!("{}", lab.host("a1").run(&["ip", "route"]).await?);
    println!("{}", lab.host("a1").run(&["ping", "-c1", "-W1", "10.87.2.11"]).await?);
    Ok(())
});
