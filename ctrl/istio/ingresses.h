/* Kubernetes' Ingress as Istio takes it: into Gateways and VirtualServices, while a model is finished (MeshConfig and everything else is there). */
#pragma once

#include "ctrl/istio/model.h"

/* By class and MeshConfig ingressControllerMode. r: as it was read, its spec is not looked at but for the class. Says why when it is not. */
bool istio_ingress_is_ours(const struct istio_model *m, const struct resource *r, struct istio_diags *diags);
/* What kinds[KIND_INGRESS] has, oldest first, is added to the Gateways and VirtualServices, in whatever order. */
void istio_ingresses_convert(struct istio_model *m, struct istio_diags *diags);
