module layerpin/vectors

go 1.24

require github.com/containers/image/v5 v5.36.2

require (
	github.com/containers/storage v1.59.1 // indirect
	github.com/opencontainers/go-digest v1.0.0 // indirect
)
