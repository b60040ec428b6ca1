"""K-Means: first centres, Lloyd's iterations without distances that bounds make needless, exact inertia. The entry is `kmeans`."""
