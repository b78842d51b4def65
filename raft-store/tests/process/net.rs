//! The network between members: a bridge, a namespace a member, and rules that drop what comes from whom.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};

use super::cell::Ground;

const BRIDGE: &str = "members";
const MEMBER_PORT: u16 = 7000;
const CLIENT_PORT: u16 = 7001;

/// Links between members, named by number from 1. Clients are outside and always reach everybody.
pub struct Net {
    ground: Ground,
    /// Added to the numbers in its addresses on loopback, which one program's networks share.
    first: u8,
    members: BTreeSet<usize>,
    /// (from, to): what is dropped on arrival.
    cut: BTreeSet<(usize, usize)>,
    /// Of what arrives from other members, so many percent are lost.
    loss: std::collections::BTreeMap<usize, u32>,
}

fn run(line: &str) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let output = Command::new(words[0]).args(&words[1..]).output();
    let output = output.unwrap_or_else(|error| panic!("{line}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {said}");
}

impl Net {
    pub fn new(ground: Ground) -> Self {
        if ground == Ground::Namespaces {
            run(&format!("ip link add {BRIDGE} type bridge"));
            run(&format!("ip addr add 10.77.0.254/24 dev {BRIDGE}"));
            run(&format!("ip link set {BRIDGE} up"));
        }
        static NETS: AtomicU8 = AtomicU8::new(0);
        Self {
            ground,
            first: NETS.fetch_add(80, Ordering::Relaxed) % 240,
            members: BTreeSet::new(),
            cut: BTreeSet::new(),
            loss: std::collections::BTreeMap::new(),
        }
    }

    pub fn ground(&self) -> Ground {
        self.ground
    }

    fn address(&self, member: usize) -> IpAddr {
        let number = u8::try_from(member).expect("few members");
        // Loopback is wide enough that two runs on one machine seldom meet.
        let process = std::process::id().to_le_bytes();
        IpAddr::V4(match self.ground {
            Ground::Namespaces => Ipv4Addr::new(10, 77, 0, number),
            Ground::Loopback => {
                Ipv4Addr::new(127, 64 | (process[1] & 63), process[0], self.first + number)
            }
        })
    }

    /// Where other members reach it.
    pub fn member_address(&self, member: usize) -> SocketAddr {
        SocketAddr::new(self.address(member), MEMBER_PORT)
    }

    /// Where clients reach it.
    pub fn client_address(&self, member: usize) -> SocketAddr {
        SocketAddr::new(self.address(member), CLIENT_PORT)
    }

    /// A place for one more member.
    pub fn add(&mut self, member: usize) {
        if !self.members.insert(member) || self.ground == Ground::Loopback {
            return;
        }
        let address = self.address(member);
        for line in [
            format!("ip netns add m{member}"),
            format!("ip link add v{member} type veth peer name eth0 netns m{member}"),
            format!("ip link set v{member} master {BRIDGE}"),
            format!("ip link set v{member} up"),
            format!("ip -n m{member} addr add {address}/24 dev eth0"),
            format!("ip -n m{member} link set eth0 up"),
            format!("ip -n m{member} link set lo up"),
        ] {
            run(&line);
        }
    }

    /// The words in front of a command that is to run there.
    pub fn within(&self, member: usize) -> Vec<String> {
        match self.ground {
            Ground::Namespaces => ["ip", "netns", "exec", &format!("m{member}")]
                .map(str::to_owned)
                .to_vec(),
            Ground::Loopback => Vec::new(),
        }
    }

    /// Drops from now on what goes from one to the other, and only that.
    pub fn cut(&mut self, links: impl IntoIterator<Item = (usize, usize)>) {
        self.cut.extend(links);
        self.apply();
    }

    /// Loses `percent` of the packets that reach `member` from other members.
    pub fn lose(&mut self, member: usize, percent: u32) {
        self.loss.insert(member, percent);
        self.apply();
    }

    /// All links are whole again.
    pub fn heal(&mut self) {
        self.cut.clear();
        self.loss.clear();
        self.apply();
    }

    /// Whether all packets go from one to the other.
    pub fn open(&self, from: usize, to: usize) -> bool {
        let lossy = |member| self.loss.contains_key(&member);
        from == to || !(self.cut.contains(&(from, to)) || lossy(from) || lossy(to))
    }

    fn apply(&self) {
        if self.ground == Ground::Loopback {
            return;
        }
        for to in &self.members {
            let mut rules = String::from("*filter\n:INPUT ACCEPT [0:0]\n");
            for (from, _) in self.cut.iter().filter(|(_, at)| at == to) {
                rules += &format!("-A INPUT -s {} -j DROP\n", self.address(*from));
            }
            if let Some(percent) = self.loss.get(to) {
                for from in self.members.iter().filter(|from| *from != to) {
                    let (source, share) = (self.address(*from), f64::from(*percent) / 100.0);
                    rules += &format!(
                        "-A INPUT -s {source} -m statistic --mode random --probability {share} -j DROP\n"
                    );
                }
            }
            rules += "COMMIT\n";
            self.restore(*to, &rules);
        }
    }

    fn restore(&self, member: usize, rules: &str) {
        let words = self.within(member);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg("iptables-restore");
        let mut process = command
            .stdin(Stdio::piped())
            .spawn()
            .expect("iptables is here");
        let mut input = process.stdin.take().expect("piped");
        input.write_all(rules.as_bytes()).expect("it reads");
        drop(input);
        let status = process.wait().expect("it ends");
        assert!(status.success(), "iptables-restore: {rules}");
    }
}
