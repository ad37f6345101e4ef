//! What is written on a pod so that nobody stops it while somebody is on it.
//!
//! Never says when: that is the agent's `keeping`.

use greenroom_agent::keeping::Mark;
use serde_json::{Value, json};

/// Label of a pod, `true` while somebody is on it: budgets and policies choose by it.
pub const BUSY_LABEL: &str = "greenroom.dev/busy";
/// Whether the cluster's autoscaler may move the pod to empty its node.
const SAFE_TO_EVICT: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict";
/// The same for Karpenter.
const DO_NOT_DISRUPT: &str = "karpenter.sh/do-not-disrupt";
/// Which pods of a set go first when it shrinks: those of least cost.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// The merge patch that puts `mark` on the pod of this `uid` and on no later one of the same name.
#[must_use]
pub fn patch(mark: Mark, uid: &str) -> Value {
    let (busy, cost) = match mark {
        Mark::Idle => (false, 0),
        Mark::Busy { cost } => (true, cost),
    };
    json!({ "metadata": {
        "uid": uid,
        "labels": { BUSY_LABEL: busy.to_string() },
        "annotations": {
            SAFE_TO_EVICT: (!busy).to_string(),
            DELETION_COST: cost.to_string(),
            // Only its presence is documented to hold; null takes it away.
            DO_NOT_DISRUPT: busy.then_some("true"),
        },
    }})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_says_the_same_to_all_who_stop_pods() {
        let busy = json!({ "metadata": {
            "uid": "u-1",
            "labels": { "greenroom.dev/busy": "true" },
            "annotations": {
                "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
                "controller.kubernetes.io/pod-deletion-cost": "8",
                "karpenter.sh/do-not-disrupt": "true",
            },
        }});
        let idle = json!({ "metadata": {
            "uid": "u-1",
            "labels": { "greenroom.dev/busy": "false" },
            "annotations": {
                "cluster-autoscaler.kubernetes.io/safe-to-evict": "true",
                "controller.kubernetes.io/pod-deletion-cost": "0",
                "karpenter.sh/do-not-disrupt": null,
            },
        }});
        assert_eq!(patch(Mark::Busy { cost: 8 }, "u-1"), busy);
        assert_eq!(patch(Mark::Idle, "u-1"), idle);
    }
}
