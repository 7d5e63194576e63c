module k8s-parsl.test/csi

go 1.26

require (
	github.com/container-storage-interface/spec v1.12.0
	k8s.io/kubelet v0.37.2
)
