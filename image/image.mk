# The training image: docs/image.md. Included by the Makefile.
ENGINE ?= $(firstword $(foreach tool,docker podman buildah,$(if $(shell command -v $(tool)),$(tool))))
FLAVOR ?= cuda
IMAGE ?= naics-train
VERSION ?= $(shell sed -nE 's/^version = "(.*)"/\1/p' pyproject.toml)
TAG ?= $(VERSION)-$(FLAVOR)
REVISION ?= $(shell git describe --always --abbrev=40 --dirty 2>/dev/null || echo unknown)
CREATED ?= $(shell git log -1 --format=%cI 2>/dev/null || echo 1970-01-01T00:00:00Z)
BUILD_OPTIONS ?=

# Set by whoever needs them: the arguments of the Dockerfile that image_args names, WHEELS and WEIGHTS folders, CA a file of certificates that a mirror needs.
image_args = $(foreach name,BASE_IMAGE PIP_INDEX_URL TORCH_INDEX_URL TORCH_SHA256,\
	$(if $(filter undefined,$(origin $(name))),,--build-arg $(name)='$($(name))'))
image_args += $(if $(CA),--secret id=ca$(comma)src=$(CA))
image_args += $(if $(WHEELS),--build-context wheels=$(abspath $(WHEELS)))
image_args += $(if $(WEIGHTS),--build-context weights=$(abspath $(WEIGHTS)))
# The OCI format has no HEALTHCHECK; buildah reuses layers only when told.
engine_args = $(if $(findstring docker,$(ENGINE)),,--format docker --layers)

.PHONY: image
image:  ## build the image; FLAVOR=cpu, IMAGE, TAG, BASE_IMAGE, ENGINE=docker|podman|buildah
	@test -n '$(ENGINE)' || { echo 'no docker, podman or buildah found: set ENGINE' >&2; exit 1; }
	$(ENGINE) build $(engine_args) $(BUILD_OPTIONS) --build-arg TORCH_FLAVOR=$(FLAVOR) \
	  --build-arg VERSION='$(VERSION)' --build-arg REVISION='$(REVISION)' \
	  --build-arg CREATED='$(CREATED)' $(image_args) --tag $(IMAGE):$(TAG) .

.PHONY: test-image
test-image: setup  ## build the CPU image and run it in containers: root, buildah, podman, runc
	$(BIN)/pytest -n0 -m e2e tests/integration/container
