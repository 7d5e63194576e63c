module k8s-parsl.test/pause

go 1.26.0
