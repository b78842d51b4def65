//! Traffic classes: how much a session may send, and who is served first when the server is full.

use ipnet::IpNet;

use super::schema::{choice, section};

section! {
    /// Traffic classes and who is in which.
    pub struct Traffic {
        /// The classes. One named as a default one (`normal`, `vip`, `admin`) replaces it.
        pub classes: Vec<TrafficClass> = Vec::new(),
        /// Who is in which class: the first that fits; without any, `admins` of hosts are in `admin`,
        /// everyone else in `normal`.
        pub assign: Vec<TrafficAssignment> = Vec::new(),
    }
}

impl Traffic {
    /// All classes: the default ones, as replaced, then own ones.
    pub fn all_classes(&self) -> Vec<TrafficClass> {
        let mut classes = default_classes();
        for own in &self.classes {
            match classes.iter_mut().find(|c| c.name == own.name) {
                Some(class) => *class = own.clone(),
                None => classes.push(own.clone()),
            }
        }
        classes
    }
}

section! {
    /// One class.
    pub struct TrafficClass {
        /// Its name.
        pub name: String = String::new(),
        /// The window in which bytes and stanzas are counted.
        pub window_seconds: u32 = 1,
        /// Bytes a session may send per window; as many may come at once. 0 means no limit.
        pub bytes_per_window: u64 = 8 * 1024 * 1024,
        /// Stanzas a session may send per window; as many may come at once. 0 means no limit.
        pub stanzas_per_window: u32 = 20_000,
        /// What happens over that.
        pub over: OverRate = OverRate::Wait,
        /// Bytes a session may send in its life. 0 means no limit.
        pub lifetime_bytes: u64 = 0,
        /// Stanzas a session may send in its life. 0 means no limit.
        pub lifetime_stanzas: u64 = 0,
        /// When the server is saturated, by logins or by messages to be stored, the heavier class is
        /// served first, and the lighter waits (its sockets are not read) or is shed first, with
        /// `resource-constraint`.
        pub weight: u32 = 10,
    }
}

section! {
    /// Who is in a class. It fits where every kind of selector that is given fits; within one kind, any.
    pub struct TrafficAssignment {
        /// The class by name.
        pub class: String = String::new(),
        /// Bare JIDs.
        pub accounts: Vec<String> = Vec::new(),
        /// Hosts: their accounts.
        pub hosts: Vec<String> = Vec::new(),
        /// Networks the client comes from.
        pub networks: Vec<IpNet> = Vec::new(),
    }
}

choice! {
    /// What happens to a session that sends more than its class allows.
    pub enum OverRate {
        /// Its socket is not read until it is within its rate again.
        Wait = "wait",
        /// Its stream is closed with `policy-violation`.
        Disconnect = "disconnect",
    }
}

fn default_classes() -> Vec<TrafficClass> {
    let normal = TrafficClass {
        name: "normal".to_owned(),
        ..TrafficClass::default()
    };
    let vip = TrafficClass {
        name: "vip".to_owned(),
        bytes_per_window: 4 * normal.bytes_per_window,
        stanzas_per_window: 4 * normal.stanzas_per_window,
        weight: 50,
        ..TrafficClass::default()
    };
    let admin = TrafficClass {
        name: "admin".to_owned(),
        weight: 100,
        ..vip.clone()
    };
    vec![normal, vip, admin]
}
