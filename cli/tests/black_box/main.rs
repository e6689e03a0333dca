//! black_box runs the built command as its users do, and looks at what comes out.

mod browser;
mod command;
mod compare;
mod defence;
mod demo;
mod doctor;
mod experiment;
mod http3;
mod idle;
mod keys;
mod load;
mod merge;
mod protocols;
mod refused;
mod repeat;
mod results;
mod serve;
mod steering;
mod tune;
mod usage;
