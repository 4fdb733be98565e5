//! The federation, told as stories: each test is one thing that can happen to jobs, nodes and instances.

mod access;
#[cfg(test)]
mod books;
mod clouds;
mod currency;
#[cfg(test)]
mod egress;
mod faults;
#[cfg(test)]
mod gangs;
mod life;
#[cfg(test)]
mod limits;
mod nodes;
#[cfg(test)]
mod pools;
mod queue;
mod roles;
mod rules;
#[cfg(test)]
mod usage;
#[cfg(test)]
mod words;
