//! listen judges whether each address can be listened on.

use crate::facts::Trials;
use crate::finding::{Finding, Scope};

pub(super) fn check(trials: &Trials) -> Vec<Finding> {
    let (id, scope) = ("listen", Scope::Process);
    let why = "the server binds it alone first, so that it never shares another server's packets";
    let finding = |(address, outcome): &(std::net::SocketAddr, Result<(), String>)| match outcome {
        Ok(()) => Finding::ok(id, scope.clone(), format!("{address} is free"), why),
        Err(error) => {
            let mend = format!("ss -lnup 'sport = :{}'", address.port());
            let finding = Finding::problem(id, scope.clone(), error, why);
            if error.contains("ss -lnup") { finding.mend(mend) } else { finding }
        }
    };
    trials.listen.iter().map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Status;
    use crate::recorded;

    #[test]
    fn each_address_is_judged() {
        let mut facts = recorded::bare_metal();
        assert!(check(&facts.trials).is_empty());
        let address: std::net::SocketAddr = "[::]:443".parse().unwrap();
        let taken = "cannot bind UDP [::]:443: in use; choose another (see `ss -lnup`)";
        facts.trials.listen = vec![
            (address, Ok(())),
            (address, Err(taken.to_owned())),
            (address, Err("no interface has it".to_owned())),
        ];
        let findings = check(&facts.trials);
        let statuses: Vec<Status> = findings.iter().map(|finding| finding.status).collect();
        assert_eq!(statuses, [Status::Ok, Status::Problem, Status::Problem]);
        assert_eq!(findings[1].mend.as_deref(), Some("ss -lnup 'sport = :443'"));
        assert_eq!(findings[2].mend, None);
    }
}
