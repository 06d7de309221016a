//! The crash matrix's model of the workflow, apart from the program that drives it: the end-to-end suite compares it with
//! the state machine.

pub mod workflow_model;
