//! wake gets a sleeping worker out of its wait.
