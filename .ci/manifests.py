#!/usr/bin/env python3
"""Checks deploy/mpijob.yaml without a cluster or a network: pods against the strict schema of Kubernetes that comes with
kubernetes-validate, the fields of an MPIJob (kubeflow.org/v2beta1) by name, and that its numbers fit each other.
Then breaks it in several ways, each of which has to be noticed.

    .ci/manifests.py [FILE]
"""
import copy
import pathlib
import sys

import kubernetes_validate
import yaml

VERSION = "1.31"
ROLES = ("Launcher", "Worker")
# Names of fields, as mpi-operator's documentation of the API has them.
FIELDS = {
    "": {"apiVersion", "kind", "metadata", "spec"},
    "spec": {"launcherCreationPolicy", "mpiImplementation", "mpiReplicaSpecs", "runLauncherAsWorker", "runPolicy", "slotsPerWorker", "sshAuthMountPath"},
    "spec.runPolicy": {"activeDeadlineSeconds", "backoffLimit", "cleanPodPolicy", "managedBy", "schedulingPolicy", "suspend", "ttlSecondsAfterFinished"},
    "spec.mpiReplicaSpecs": set(ROLES),
    **{f"spec.mpiReplicaSpecs.{role}": {"replicas", "restartPolicy", "template"} for role in ROLES},
}


def at(job, path):
    for name in filter(None, path.split(".")):
        job = job.get(name, {})
    return job


def after(args, option):
    """The value that follows an option."""
    return args[args.index(option) + 1] if option in args[:-1] else None


def problems(job):
    found = [f"{path or 'the job'}: no field {name}" for path, known in FIELDS.items() for name in sorted(set(at(job, path)) - known)]
    if (job.get("apiVersion"), job.get("kind")) != ("kubeflow.org/v2beta1", "MPIJob"):
        found.append("it is no MPIJob of kubeflow.org/v2beta1")
    for role in ROLES:
        template = at(job, f"spec.mpiReplicaSpecs.{role}.template")
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": role.lower()}, "spec": template.get("spec")}
        try:
            kubernetes_validate.validate(pod, VERSION, strict=True)
        except kubernetes_validate.ValidationError as e:
            found.append(f"{role}: {e}".splitlines()[0][:300])
    if found:
        return found
    launcher = at(job, "spec.mpiReplicaSpecs.Launcher.template")["spec"]["containers"][0]
    args = launcher.get("args", [])
    ranks, meant = after(args, "-n"), after(args, "--ranks")
    room = job["spec"]["slotsPerWorker"] * at(job, "spec.mpiReplicaSpecs.Worker")["replicas"]
    if ranks is None or ranks != meant:
        found.append(f"mpirun -n {ranks} and --ranks {meant} differ")
    elif int(ranks) != room:
        found.append(f"{ranks} ranks on {room} slots")
    if after(args, "--hostfile") != "/etc/mpi/hostfile":
        found.append("mpirun is not given the operator's list of hosts")
    return found


def broken(job):
    """The job with one thing wrong, and what is."""
    def change(what, f):
        other = copy.deepcopy(job)
        f(other)
        return what, other

    pod = lambda job, role: job["spec"]["mpiReplicaSpecs"][role]["template"]["spec"]
    yield change("a field of the job that is misspelt", lambda j: j["spec"].update(slotPerWorker=2))
    yield change("a policy that is misspelt", lambda j: j["spec"]["runPolicy"].update(cleanPodsPolicy="All"))
    yield change("another version", lambda j: j.update(apiVersion="kubeflow.org/v1"))
    yield change("a field of a container that is misspelt", lambda j: pod(j, "Worker")["containers"][0].update(workingDirectory="/"))
    yield change("arguments that are no list", lambda j: pod(j, "Launcher")["containers"][0].update(args="run"))
    yield change("a container without a name", lambda j: pod(j, "Worker")["containers"][0].pop("name"))
    yield change("fewer slots than ranks", lambda j: j["spec"].update(slotsPerWorker=1))
    yield change("another number of ranks", lambda j: pod(j, "Launcher")["containers"][0]["args"].__setitem__(3, "3"))
    yield change("no list of hosts", lambda j: pod(j, "Launcher")["containers"][0]["args"].__setitem__(1, "hosts"))


def main():
    file = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent / "deploy/mpijob.yaml")
    job = yaml.safe_load(file.read_text())
    found = problems(job)
    for problem in found:
        print(f"{file}: {problem}", file=sys.stderr)
    if found:
        return 1
    unnoticed = [what for what, other in broken(job) if not problems(other)]
    for what in unnoticed:
        print(f"not noticed: {what}", file=sys.stderr)
    print(f"{file}: right, and {sum(1 for _ in broken(job))} mistakes are noticed")
    return 1 if unnoticed else 0


if __name__ == "__main__":
    sys.exit(main())
