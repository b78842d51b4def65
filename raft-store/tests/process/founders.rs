//! Many empty members started at once: one cluster, every time.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::Directory;
use super::cell::{Again, Ground};
use super::client::{self, field};
use super::net::Net;
use super::run::LIMIT;
use super::times::Times;
use super::world::World;

/// Until all of them serve.
const PATIENCE: Duration = Duration::from_secs(60);

/// Founds with `members` at once, `rounds` times. What must not be.
pub fn run(members: usize, rounds: usize, ground: Ground, again: Again) -> Vec<String> {
    let mut net = Net::new(ground);
    let (mut times, mut found) = (Times::default(), Vec::new());
    for round in 1..=rounds {
        let directory = Directory::new(&format!("founders-{round}"));
        let mut world = World::new(net, again, directory.0.clone());
        world.first = members;
        (1..=members).for_each(|number| world.add(number));
        let began = Instant::now();
        world.start_all();
        let lacking = world.await_serving(PATIENCE);
        match lacking.is_empty() {
            true => times.add(began.elapsed()),
            false => found.push(format!(
                "round {round}: {lacking:?} do not serve: {}",
                world.describe()
            )),
        }
        found.extend(
            one_cluster(&world, members)
                .into_iter()
                .map(|wrong| format!("round {round}: {wrong}")),
        );
        world.look_after();
        found.extend(
            world
                .surprises
                .iter()
                .map(|surprise| format!("round {round}: {surprise}")),
        );
        net = world.end();
    }
    times.print(&format!("{members} founders at once, until all serve"));
    found
}

/// All say the same cluster, and what one has written all read.
fn one_cluster(world: &World, members: usize) -> Vec<String> {
    let mut wrong = Vec::new();
    let statuses = (1..=members).filter_map(|member| world.status(member));
    let clusters: BTreeSet<String> = statuses
        .filter_map(|status| field(&status, "cluster").map(str::to_owned))
        .collect();
    if clusters.len() != 1 {
        wrong.push(format!("clusters {clusters:?}"));
    }
    for member in 1..=members {
        let ask = |request: &str| client::ask(world.net.client_address(member), request, LIMIT);
        let wanted = if member == 1 { "written " } else { "value " };
        let request = if member == 1 {
            "put founded here"
        } else {
            "get founded"
        };
        let answer = ask(request);
        if !answer
            .as_ref()
            .is_ok_and(|answer| answer.starts_with(wanted))
        {
            wrong.push(format!("member {member}: {answer:?}"));
        }
    }
    wrong
}
