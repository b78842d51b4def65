//! The goals of DESIGN §7, computed from the rows of one run.

use std::fmt::Write as _;

use serde::Serialize;

use super::report::{Report, Row};

/// One goal and what the run says about it.
#[derive(Debug, Serialize)]
pub struct Goal {
    /// What is asked.
    pub goal: String,
    /// What was measured.
    pub measured: f64,
    /// The bound.
    pub bound: f64,
    /// Whether `measured` must not be below `bound`; else it must not be above.
    pub at_least: bool,
    /// Whether that holds.
    pub met: bool,
}

struct Found<'a> {
    report: &'a Report,
    goals: Vec<Goal>,
}

impl Found<'_> {
    fn row(&self, scenario: &str, server: &str) -> Option<&Row> {
        let mut rows = self.report.rows.iter();
        rows.find(|r| r.scenario == scenario && r.server == server)
    }

    fn figure(&self, scenario: &str, server: &str, of: Figure) -> Option<f64> {
        of(self.row(scenario, server)?)
    }

    fn check(&mut self, goal: String, measured: Option<f64>, bound: f64, at_least: bool) {
        let Some(measured) = measured else { return };
        let met = if at_least {
            measured >= bound
        } else {
            measured <= bound
        };
        self.goals.push(Goal {
            goal,
            measured,
            bound,
            at_least,
            met,
        });
    }

    fn at_most(&mut self, goal: &str, scenario: &str, of: Figure, bound: f64) {
        let measured = self.figure(scenario, "eider", of);
        self.check(format!("{scenario}: {goal}"), measured, bound, false);
    }

    /// How many times Eider's figure is in the rival's.
    fn times(&mut self, goal: &str, scenario: &str, rival: &str, of: Figure, bound: f64) {
        let ratio = self
            .figure(scenario, rival, of)
            .zip(self.figure(scenario, "eider", of));
        let goal = format!("{scenario}: {goal} {rival}, times less");
        self.check(goal, ratio.map(|(theirs, ours)| theirs / ours), bound, true);
    }

    fn over(&mut self, goal: &str, scenario: &str, base: (&str, &str), of: Figure, bound: f64) {
        let both = self
            .figure(scenario, "eider", of)
            .zip(self.figure(base.0, base.1, of));
        let measured = both.map(|(ours, base)| ours - base);
        self.check(format!("{scenario}: {goal}"), measured, bound, false);
    }
}

type Figure = fn(&Row) -> Option<f64>;

/// Every goal that the rows of this run can tell about.
pub fn goals(report: &Report) -> Vec<Goal> {
    let cpu: Figure = Row::cpu_us;
    let (p50, p99): (Figure, Figure) = (|r| r.p50_ms, |r| r.p99_ms);
    let value: Figure = |r| r.value;
    let mut found = Found {
        report,
        goals: Vec::new(),
    };
    found.times("CPU against", "chat, closed loop", "ejabberd", cpu, 10.0);
    found.at_most("CPU, us", "chat, closed loop", cpu, 12.0);
    for step in ["chat, 1000 msg/s", "chat, 1000 msg/s, all at once"] {
        found.times("p50 against", step, "ejabberd", p50, 10.0);
        found.times("p99 against", step, "ejabberd", p99, 10.0);
    }
    found.times("CPU against", "iq ping", "ejabberd", cpu, 10.0);
    found.at_most("CPU, us", "iq ping", cpu, 8.0);
    for login in ["login, STARTTLS", "login, direct TLS"] {
        found.times("CPU against", login, "prosody", cpu, 10.0);
        found.at_most("CPU, us", login, cpu, 500.0);
        let rate = found.figure(login, "eider", |r| r.per_second);
        found.check(format!("{login}: per second"), rate, 1000.0, true);
    }
    found.at_most("CPU, us", "presence delivery, roster of 20", cpu, 6.0);
    found.at_most("CPU, us", "presence delivery, roster of 5000", cpu, 6.0);
    let idle = "memory per idle connection";
    found.at_most("KiB", idle, value, 12.0);
    found.over(
        "KiB over the bare server's",
        idle,
        (idle, "bare echo"),
        value,
        4.0,
    );
    found.at_most("ms", "ready after start", value, 100.0);
    found.at_most(
        "seconds until the last is back",
        "storm after a restart",
        value,
        20.0,
    );
    archived(&mut found, cpu, p50);
    found.goals
}

fn archived(found: &mut Found<'_>, cpu: Figure, p50: Figure) {
    let row = |engine: &str, pace: &str| format!("archived chat, {engine}, {pace}");
    let (closed, slow) = ("closed loop", "1000 msg/s");
    found.times(
        "CPU against",
        &row("postgres", closed),
        "ejabberd",
        cpu,
        10.0,
    );
    found.times("CPU against", &row("postgres", slow), "ejabberd", cpu, 3.0);
    for pace in [closed, "20000 msg/s"] {
        let scenario = row("postgres", pace);
        found.over(
            "CPU over the same rows bare, us",
            &scenario,
            (&scenario, "bare insert"),
            cpu,
            25.0,
        );
    }
    found.at_most("CPU, us", &row("sqlite", closed), cpu, 60.0);
    for engine in ["sqlite", "postgres"] {
        let lone = found.figure(&format!("lone commit, {engine}"), "bare", p50);
        let Some(bound) = lone.map(|lone| 1.5 * lone + 0.3) else {
            continue;
        };
        found.at_most(
            "p50 within 1.5 lone commits + 0.3 ms",
            &row(engine, slow),
            p50,
            bound,
        );
    }
}

/// The goals as a table.
pub fn table(goals: &[Goal]) -> String {
    let mut text = String::new();
    for goal in goals {
        let word = if goal.met { "met" } else { "MISSED" };
        let relation = if goal.at_least { ">=" } else { "<=" };
        let (what, measured, bound) = (&goal.goal, goal.measured, goal.bound);
        let _ = writeln!(
            text,
            "{word:<7} {measured:>10.2} {relation} {bound:<8.2} {what}"
        );
    }
    text
}
