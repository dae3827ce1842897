//! The count by subnets against the definition by pairs.

use weft_core::{
    encap::{Encapsulation, Endpoint},
    membership::Path,
    types::{Mac, PerFamily, UnderlayAddress, Vni},
};

use super::*;

fn member(n: u8, v4: Option<&str>, v6: Option<&str>) -> Member {
    let underlay = |text: Option<&str>| text.map(|text| text.parse::<UnderlayAddress>().expect(text));
    Member {
        name: format!("n{n}").parse().expect("a name"),
        incarnation: 1,
        pod_cidrs: PerFamily { v4: Some(format!("10.0.{n}.0/24").parse().expect("a CIDR")), v6: None },
        endpoint: Endpoint::Vxlan { mac: Mac::local([2, 0, 0, 0, 0, n]) },
        underlay: PerFamily { v4: underlay(v4), v6: underlay(v6) },
        underlay_mtu: 1500,
        more: Default::default(),
    }
}

#[test]
fn agrees_with_every_pair() {
    let members = [
        member(1, Some("192.0.2.1/24"), None),
        member(2, Some("192.0.2.2/24"), Some("fd00::2/64")),
        // The same subnet seen narrower and wider, and single hosts.
        member(3, Some("192.0.2.3/25"), Some("fd00::3/64")),
        member(4, Some("192.0.2.200/25"), None),
        member(5, Some("192.0.2.5/16"), None),
        member(6, Some("192.0.3.6/16"), Some("fd00:0:0:1::6/64")),
        member(7, Some("192.0.2.7/32"), None),
        member(8, None, Some("fd00::8/48")),
        member(9, None, None),
    ];
    let members: Vec<&Member> = members.iter().collect();
    for mode in [Mode::CrossSubnet, Mode::Always, Mode::Never] {
        for outer in Family::ALL {
            let vni = Vni::new(87).expect("in range");
            let settings = Settings {
                pools: Vec::new(),
                mode,
                encapsulation: Encapsulation::Vxlan { vni, port: 4789, outer },
                more: Default::default(),
            };
            for family in Family::ALL {
                let counted = count(&members, family, &settings);
                for me in &members {
                    let mut expected = Reach::default();
                    for other in members.iter().filter(|other| other.name != me.name) {
                        match me.path(other, family, &settings) {
                            Path::Direct => expected.direct += 1,
                            Path::Tunnel => expected.tunnel += 1,
                            Path::None => expected.unreached += 1,
                        }
                    }
                    assert_eq!(counted[&me.name], expected, "{} {mode} {outer} {family}", me.name);
                }
            }
        }
    }
}
