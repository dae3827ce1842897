//! The controller from outside: a real server on loopback, real TLS, a real store file.

mod agent;
mod certificates;
mod crowds;
mod facts;
mod harness;
mod hostile;
mod identity;
mod joining;
mod late;
mod quarantine;
mod restarts;
mod slow;
mod status;
mod store_contract;
mod store_files;
