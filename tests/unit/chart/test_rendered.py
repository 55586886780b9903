"""What the chart renders, read from its checked-in examples; `make lint` renders them anew.

Aspects: the agent's privileges, the artifacts pods' lack of them, the operator's and its RBAC, the
webhooks and the warnings, and that everything is spelled as the code spells it.
"""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import stillframe_agent.settings as agent
import stillframe_operator.settings as operator
import yaml

from stillframe import names
from stillframe.capture.facts import FactsPolicy

ROOT = Path(__file__).resolve().parents[3]
RENDERED = ROOT / "deploy/helm/stillframe/examples/rendered"
EXAMPLES = sorted(file.stem for file in RENDERED.glob("*.yaml"))
PRIVILEGED = {"SYS_PTRACE", "DAC_READ_SEARCH"}

Manifest = dict[str, Any]
Rendered = dict[tuple[str, str], Manifest]


@pytest.fixture(params=EXAMPLES)
def rendered(request: pytest.FixtureRequest) -> Rendered:
    return load(request.param)


def load(example: str) -> Rendered:
    """Every object of one example, by kind and name."""
    text = (RENDERED / f"{example}.yaml").read_text()
    return {(m["kind"], m["metadata"]["name"]): m for m in yaml.safe_load_all(text) if m}


def pod_of(rendered: Rendered, component: str) -> Manifest:
    kind = "Deployment" if component == names.COMPONENT_OPERATOR else "DaemonSet"
    spec: Manifest = rendered[kind, f"stillframe-{component}"]["spec"]["template"]["spec"]
    return spec


def containers(pod: Manifest) -> list[Manifest]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def effective(pod: Manifest, container: Manifest, key: str) -> Any:
    """A security setting as the kubelet reads it: the container's wins over the pod's."""
    own = container.get("securityContext", {})
    return own.get(key, pod.get("securityContext", {}).get(key))


def environment(pod: Manifest) -> dict[str, str]:
    (container,) = pod["containers"]
    return {entry["name"]: entry.get("value", "from-the-pod") for entry in container["env"]}


COMPONENTS = (names.COMPONENT_OPERATOR, names.COMPONENT_AGENT, names.COMPONENT_ARTIFACTS)


@pytest.mark.parametrize("component", COMPONENTS)
def test_every_container_is_confined(rendered: Rendered, component: str) -> None:
    pod = pod_of(rendered, component)
    for container in containers(pod):
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"]["drop"] == ["ALL"]
        assert "privileged" not in context
        assert effective(pod, container, "seccompProfile") == {"type": "RuntimeDefault"}
        assert {"hostNetwork", "hostIPC"}.isdisjoint(pod)


def test_only_the_agent_has_capabilities_and_it_has_two(rendered: Rendered) -> None:
    held = {
        (component, container["name"]): set(container["securityContext"]["capabilities"]["add"])
        for component in COMPONENTS
        for container in containers(pod_of(rendered, component))
        if "add" in container["securityContext"]["capabilities"]
    }
    assert held == {("agent", "agent"): PRIVILEGED}


def test_only_the_agent_is_root_and_sees_the_nodes_processes(rendered: Rendered) -> None:
    root, host_pid = set(), set()
    for component in COMPONENTS:
        pod = pod_of(rendered, component)
        if pod.get("hostPID"):
            host_pid.add(component)
        for container in containers(pod):
            if effective(pod, container, "runAsUser") == 0:
                root.add((component, container["name"]))
            else:
                assert effective(pod, container, "runAsNonRoot") is True
                assert effective(pod, container, "runAsUser") == 65532
    assert root == {("agent", "agent")}
    assert host_pid == {"agent"}


def test_only_the_operator_has_api_credentials(rendered: Rendered) -> None:
    for component in COMPONENTS:
        account = rendered["ServiceAccount", f"stillframe-{component}"]
        assert account["automountServiceAccountToken"] is False
        pod = pod_of(rendered, component)
        assert pod["serviceAccountName"] == f"stillframe-{component}"
        assert pod["automountServiceAccountToken"] is (component == names.COMPONENT_OPERATOR)
    bound = {
        subject["name"]
        for (kind, _), manifest in rendered.items()
        if kind in ("RoleBinding", "ClusterRoleBinding")
        for subject in manifest["subjects"]
    }
    assert bound == {"stillframe-operator"}


def test_the_agents_only_token_is_for_the_intake(rendered: Rendered) -> None:
    projected = [v for v in pod_of(rendered, "agent")["volumes"] if "projected" in v]
    (source,) = projected[0]["projected"]["sources"]
    assert len(projected) == 1
    assert source["serviceAccountToken"]["audience"] == names.TOKEN_AUDIENCE


def test_the_agent_writes_to_one_host_directory_and_sees_no_runtime_socket(
    rendered: Rendered,
) -> None:
    pod = pod_of(rendered, "agent")
    host = {v["name"]: v["hostPath"]["path"] for v in pod["volumes"] if "hostPath" in v}
    (agent,) = pod["containers"]
    mounts = {m["name"]: m for m in agent["volumeMounts"]}
    writable = {host[name] for name in host if not mounts[name].get("readOnly")}
    assert writable == {names.NODE_STATE_DIR}
    assert mounts["pods"]["mountPropagation"] == "HostToContainer"
    assert not {"/run/containerd", "/run/crio", "/var/lib/kubelet", "/"} & set(host.values())
    # The pull-injector container is confined to its scratch directory.
    assert {m["name"] for m in pod["initContainers"][0]["volumeMounts"]} == {"tmp"}


def test_artifacts_pods_see_the_evidence_and_nothing_else(rendered: Rendered) -> None:
    pod = pod_of(rendered, "artifacts")
    (volume,) = pod["volumes"]
    assert volume["hostPath"]["path"] == f"{names.NODE_STATE_DIR}/{names.ARTIFACTS_DIR}"
    (mount,) = pod["containers"][0]["volumeMounts"]
    assert mount["mountPath"] == names.ARTIFACTS_MOUNT
    assert mount["readOnly"] is True


def test_rbac_has_no_wildcard_and_reads_no_foreign_secret(rendered: Rendered) -> None:
    roles = [m for (kind, _), m in rendered.items() if kind in ("Role", "ClusterRole")]
    assert roles
    for role in roles:
        assert "aggregationRule" not in role
        for rule in role["rules"]:
            assert "nonResourceURLs" not in rule
            for entries in rule.values():
                assert all("*" not in entry for entry in entries)
            if {"secrets", "configmaps", "leases"} & set(rule["resources"]):
                assert role["kind"] == "Role"
                assert rule["verbs"] == ["create"] or rule["resourceNames"]
            dangerous = {"escalate", "bind", "impersonate"}
            assert dangerous.isdisjoint(rule["verbs"])


def test_cluster_roles_aggregate_reading_to_view_and_triage_to_edit(rendered: Rendered) -> None:
    prefix = "rbac.authorization.k8s.io/aggregate-to-"
    view = rendered["ClusterRole", "stillframe-view"]
    edit = rendered["ClusterRole", "stillframe-edit"]
    assert f"{prefix}view" in view["metadata"]["labels"]
    assert f"{prefix}view" not in edit["metadata"]["labels"]
    assert view["rules"][0]["verbs"] == ["get", "list", "watch"]
    assert "create" not in edit["rules"][0]["verbs"]


def test_webhooks_never_block_a_pod_and_carry_no_ca(rendered: Rendered) -> None:
    webhooks = rendered["MutatingWebhookConfiguration", "stillframe"]["webhooks"]
    assert [w["clientConfig"]["service"]["path"] for w in webhooks] == [
        "/inject/pod",
        "/inject/namespace",
    ]
    for webhook in webhooks:
        assert webhook["failurePolicy"] == "Ignore"
        assert webhook["timeoutSeconds"] == 3
        assert webhook["sideEffects"] == "None"
        assert webhook["reinvocationPolicy"] == "IfNeeded"
        assert "caBundle" not in webhook["clientConfig"]
        excluded = webhook["namespaceSelector"]["matchExpressions"][0]
        assert excluded["key"] == "kubernetes.io/metadata.name"
        assert excluded["operator"] == "NotIn"
        assert {"stillframe", "kube-system", "kube-node-lease"} <= set(excluded["values"])


def test_webhooks_are_disjoint(rendered: Rendered) -> None:
    pod, namespace = rendered["MutatingWebhookConfiguration", "stillframe"]["webhooks"]
    capture = f'object.metadata.?annotations[?"{names.ANNOTATION_CAPTURE}"].orValue("")'
    assert [c["expression"] for c in pod["matchConditions"]] == [f'{capture} != ""']
    assert [c["expression"] for c in namespace["matchConditions"]] == [f'{capture} == ""']
    labelled = {"key": names.LABEL_CAPTURE, "operator": "Exists"}
    assert labelled in namespace["namespaceSelector"]["matchExpressions"]
    assert labelled not in pod["namespaceSelector"]["matchExpressions"]


def test_the_policy_warns_and_never_refuses(rendered: Rendered) -> None:
    binding = rendered["ValidatingAdmissionPolicyBinding", "stillframe"]
    assert binding["spec"]["validationActions"] == ["Warn"]
    policy = rendered["ValidatingAdmissionPolicy", "stillframe"]
    assert policy["spec"]["failurePolicy"] == "Ignore"
    assert names.ANNOTATION_CAPTURE in yaml.safe_dump(policy, width=1000)


def test_names_are_those_of_the_code(rendered: Rendered) -> None:
    role = rendered["Role", "stillframe-operator"]
    named = {
        (resource, name)
        for rule in role["rules"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames", [])
    }
    assert named == {
        ("secrets", names.CA_SECRET),
        ("configmaps", names.CA_CONFIGMAP),
        ("configmaps", names.TOMBSTONES_CONFIGMAP),
        ("leases", names.LEASE),
        ("deployments", "stillframe-operator"),
    }
    volumes = {v["name"]: v for v in pod_of(rendered, "agent")["volumes"]}
    assert volumes["ca"]["configMap"] == {"name": names.CA_CONFIGMAP, "optional": True}


def test_the_operator_takes_its_settings(rendered: Rendered) -> None:
    given = environment(pod_of(rendered, "operator"))
    settings = operator.from_environment(given)
    (exclusion, *_) = rendered["MutatingWebhookConfiguration", "stillframe"]["webhooks"]
    excluded = exclusion["namespaceSelector"]["matchExpressions"][0]["values"]
    assert [*settings.excluded_namespaces, "stillframe"] == excluded
    service = rendered["Service", settings.service]["spec"]
    assert {port["name"]: port["port"] for port in service["ports"]} == {
        "webhook": 443,
        "intake": settings.intake_port,
    }
    container = pod_of(rendered, "operator")["containers"][0]
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == {
        "webhook": settings.webhook_port,
        "intake": settings.intake_port,
        "health": settings.http_port,
    }
    for kind, name in (
        ("Deployment", settings.deployment),
        ("MutatingWebhookConfiguration", settings.webhook_configuration),
        ("ServiceAccount", settings.agent_service_account),
    ):
        assert (kind, name) in rendered


def test_the_agent_takes_its_settings(rendered: Rendered) -> None:
    pod = pod_of(rendered, "agent")
    given = environment(pod)
    known = {f"{agent.ENV_PREFIX}{f.name.upper()}" for f in fields(agent.Settings)}
    assert set(given) <= known
    mounts = {m["mountPath"] for m in pod["containers"][0]["volumeMounts"]}
    assert given["STILLFRAME_AGENT_BUNDLES_DIR"] in mounts
    settings = agent.Settings(
        node_name="n", operator_address=given["STILLFRAME_AGENT_OPERATOR_ADDRESS"]
    )
    assert {str(p) for p in (settings.pods_dir, settings.log_dir, settings.state_dir)} <= mounts
    assert {str(settings.ca_file.parent), str(settings.token_file.parent)} <= mounts
    host, _, port = settings.operator_address.rpartition(":")
    assert host == "stillframe-operator.stillframe.svc"
    assert port in [
        str(p["port"]) for p in rendered["Service", host.split(".")[0]]["spec"]["ports"]
    ]


def test_credentials_of_the_object_store_are_where_the_agent_reads_them() -> None:
    rendered = load("hardened")
    pod = pod_of(rendered, "agent")
    given = environment(pod)
    assert given["STILLFRAME_AGENT_UPLOAD_URL"] == "s3://evidence/cluster-1"
    mounts = {m["name"]: m for m in pod["containers"][0]["volumeMounts"]}
    directory = agent.Settings(node_name="n", operator_address="o:1").upload_dir
    assert mounts["upload"] == {"name": "upload", "mountPath": str(directory), "readOnly": True}
    (volume,) = (v for v in pod["volumes"] if v["name"] == "upload")
    assert volume["secret"]["secretName"] == "evidence"
    assert not [name for name in environment(pod_of(load("default"), "agent")) if "UPLOAD" in name]


def test_evidence_and_its_tombstones_expire_together(rendered: Rendered) -> None:
    of_agent = environment(pod_of(rendered, "agent"))
    of_operator = environment(pod_of(rendered, "operator"))
    age = of_agent["STILLFRAME_AGENT_ARTIFACTS_AGE_SECONDS"]
    assert age == of_operator["STILLFRAME_OPERATOR_ARTIFACT_SECONDS"]


def test_the_operators_rights_are_those_of_its_contract(rendered: Rendered) -> None:
    contract = (ROOT / "operator/README.md").read_text().partition("## RBAC")[2].partition("## ")[0]
    promised = set()
    for row in (line for line in contract.splitlines() if line.startswith("| `")):
        groups, resources, verbs = (cell.replace(", ", " ") for cell in row.split("|")[1:4])
        promised.add((words(groups), words(resources.partition("(")[0]), words(verbs)))
    granted = {
        (frozenset(rule["apiGroups"]), frozenset(rule["resources"]), frozenset(rule["verbs"]))
        for kind in ("ClusterRole", "Role")
        for rule in rendered[kind, "stillframe-operator"]["rules"]
    }
    assert granted == promised


def words(cell: str) -> frozenset[str]:
    """The words of a table's cell, without the marks of code; the core group is an empty one."""
    return frozenset(word.strip('"') for word in cell.replace("`", " ").split())


def test_a_drain_never_waits_for_the_operator(rendered: Rendered) -> None:
    budget = rendered["PodDisruptionBudget", "stillframe-operator"]["spec"]
    assert budget["maxUnavailable"] == 1
    selector = rendered["Deployment", "stillframe-operator"]["spec"]["selector"]
    assert budget["selector"] == selector


def test_the_default_example_keeps_the_generated_crds() -> None:
    rendered = yaml.safe_load_all((RENDERED / "default.yaml").read_text())
    kept = {m["metadata"]["name"]: m for m in rendered if m["kind"] == "CustomResourceDefinition"}
    for file in (ROOT / "crds").glob("*.yaml"):
        crd = yaml.safe_load(file.read_text())
        found = kept.pop(crd["metadata"]["name"])
        assert found["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
        assert found == crd
    assert not kept


def test_the_agents_facts_are_those_of_the_values(rendered: Rendered) -> None:
    settings = environment(pod_of(rendered, names.COMPONENT_AGENT))
    policy = FactsPolicy.parse(
        settings["STILLFRAME_AGENT_FACTS"], settings["STILLFRAME_AGENT_FACTS_ENV_ALLOW"]
    )
    hardened = policy.allows("FEATURE_X")
    assert policy == (
        FactsPolicy.parse("-log,-command", "APP_ENV,FEATURE_*") if hardened else FactsPolicy()
    )
    assert hardened == ("registry.example.org" in str(rendered))


@pytest.mark.parametrize(("example", "volume"), [("default", "sandboxes"), ("hardened", "bundles")])
def test_mounts_of_sandboxes_reach_the_agent(example: str, volume: str) -> None:
    """CRI-O has bundles and sandboxes in one directory, and a path can be mounted once only."""
    pod = pod_of(load(example), names.COMPONENT_AGENT)
    (container,) = pod["containers"]
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    path = environment(pod)["STILLFRAME_AGENT_SANDBOXES_DIR"]
    assert mounts[volume]["mountPath"] == path
    assert mounts[volume]["mountPropagation"] == "HostToContainer"
    assert mounts[volume]["readOnly"]
    paths = [mount["mountPath"] for mount in container["volumeMounts"]]
    assert len(paths) == len(set(paths))
