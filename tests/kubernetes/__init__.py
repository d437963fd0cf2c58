"""The manifests as others read them: a real kustomize, the published schemas, and a pod without a cluster."""
