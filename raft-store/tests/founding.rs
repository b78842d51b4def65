//! Founding a cluster once, and what a person does when its disks are lost: whole members over simulated disks.

mod founding {
    mod alone;
    pub mod member;
    mod offline;
    pub mod record;
    mod several;
}
