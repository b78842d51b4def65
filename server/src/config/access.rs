//! Access rules: who, and from where, may do what.

use ipnet::IpNet;

use super::schema::{choice, section};

section! {
    /// Access rules. For an action the first rule that names it and fits decides. Where none fits:
    /// connecting, logging in, registering (on hosts with `registration = true`) and sending outside
    /// are allowed; administering is for the `admins` of the host.
    pub struct Access {
        /// The rules in order.
        pub rules: Vec<AccessRule> = Vec::new(),
    }
}

section! {
    /// One rule. It fits where every kind of selector that is given fits; within one kind, any.
    /// Without selectors it fits everyone.
    pub struct AccessRule {
        /// What the rule is about.
        pub actions: Vec<Action> = Vec::new(),
        /// Whether that is allowed or refused.
        pub allow: bool = true,
        /// Bare JIDs.
        pub accounts: Vec<String> = Vec::new(),
        /// Hosts: their accounts; at accept, where no account is known yet, a rule with accounts or
        /// hosts does not fit.
        pub hosts: Vec<String> = Vec::new(),
        /// Networks the client comes from.
        pub networks: Vec<IpNet> = Vec::new(),
    }
}

choice! {
    /// What can be allowed or refused.
    pub enum Action {
        /// Connect: decided at accept.
        Connect = "connect",
        /// Log in.
        Login = "login",
        /// Make an account from a client (XEP-0077).
        Register = "register",
        /// Use commands for administrators (XEP-0133).
        Administer = "administer",
        /// Send to domains that are not served here.
        SendOutside = "send-outside",
    }
}
